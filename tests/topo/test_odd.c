/* SPDX-License-Identifier: MIT */
/* Odd ones out, on made-up surveys: what stands out is named, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */
#include "../../tools/topo/odd.h"

#include <cmocka.h>

#define RANKS 16

static struct survey s;
static struct machine *machines[RANKS];
static struct rank_facts ranks[RANKS];
static int32_t via[RANKS * RANKS];
static double latency[RANKS * RANKS], p99[RANKS * RANKS], bandwidth[RANKS * RANKS], p10[RANKS * RANKS];
static char names[2][16] = {"shm", "tcp"};

static void set(double *matrix, int i, int j, double value)
{
	matrix[i * s.n + j] = value;
}

static void set_both(double *matrix, int i, int j, double value)
{
	set(matrix, i, j, value);
	set(matrix, j, i, value);
}

/* n ranks, so many on each host; all links of a kind alike but for a little noise. */
static void make(int n, int per_host)
{
	struct machine_source source = {.synthetic = "package:2 [numa(memory=1GB)] core:4 pu:1"};
	s = (struct survey){.n = n,
	                    .nhosts = n / per_host,
	                    .ntransports = 2,
	                    .transport = names,
	                    .rank = ranks,
	                    .via = via,
	                    .machine = machines,
	                    .latency = latency,
	                    .bandwidth = bandwidth,
	                    .latency_p99 = p99,
	                    .bandwidth_p10 = p10};
	for (int h = 0; h < s.nhosts; h++) {
		free(machines[h]);
		assert_int_equal(machine_discover(&source, &machines[h]), TUTTI_OK);
		snprintf(machines[h]->name, sizeof(machines[h]->name), "node%d", h);
	}
	for (int i = 0; i < n; i++) {
		ranks[i] = (struct rank_facts){.host = i / per_host, .memory = i / per_host};
		for (int j = 0; j < n; j++) {
			bool near = i / per_host == j / per_host;
			double noise = 1 + (i * 7 + j * 3) % 10 / 50.0;
			via[i * n + j] = i == j ? -1 : !near;
			set(latency, i, j, (near ? 1e-6 : 20e-6) * noise);
			set(p99, i, j, (near ? 3e-6 : 60e-6) * noise);
			set(bandwidth, i, j, (near ? 10e9 : 1e9) * noise);
			set(p10, i, j, (near ? 8e9 : 0.8e9) * noise);
		}
	}
}

/* What is found is this list of texts' beginnings. */
static void expect(int n, const char *const *text)
{
	assert_int_equal(odd_find(&s), TUTTI_OK);
	for (int i = 0; i < s.nodd; i++)
		if (i >= n || strncmp(s.odd[i].text, text[i], strlen(text[i])) != 0)
			fail_msg("found \"%s\" in place of \"%s\"", s.odd[i].text, i < n ? text[i] : "nothing");
	assert_int_equal(s.nodd, n);
	free(s.odd);
	s.odd = NULL;
}
#define EXPECT(...) expect((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__})

static void equal_links_are_not_odd(void **state)
{
	(void)state;
	for (int n = 2; n <= RANKS; n++)
		for (int per = 1; per <= n; per++)
			if (n % per == 0) {
				make(n, per);
				expect(0, NULL);
			}
}

static void a_slow_link(void **state)
{
	(void)state;
	make(6, 1);
	set_both(bandwidth, 2, 4, 0.3e9);
	set_both(p10, 2, 4, 0.25e9);
	EXPECT("rank 2 on node2 to rank 4 on node4, by tcp: 0.3 GB/s, peers have 1.");
	/* inside a host it is compared with those inside */
	make(8, 4);
	set_both(bandwidth, 5, 6, 2e9);
	EXPECT("rank 5 to rank 6 on node1, by shm: 2 GB/s, peers have 1");
}

static void a_slow_host_is_named_once(void **state)
{
	(void)state;
	make(8, 2);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++)
			if (i != j && (i / 2 == 2) != (j / 2 == 2)) {
				set(bandwidth, i, j, 0.1e9);
				set(p10, i, j, 0.09e9);
			}
	EXPECT("host 2 (node2), all links by tcp: 0.1 GB/s, peers have 1.");
	/* of three hosts one: most links are slow, and it is still the odd one */
	make(3, 1);
	set_both(bandwidth, 0, 1, 0.1e9);
	set_both(bandwidth, 2, 1, 0.1e9);
	set_both(p10, 0, 1, 0.1e9);
	set_both(p10, 2, 1, 0.1e9);
	EXPECT("host 1 (node1), all links by tcp: 0.1 GB/s");
	/* a rank within a host */
	make(4, 4);
	for (int j = 0; j < 3; j++)
		set_both(bandwidth, j, 3, 1e9);
	for (int j = 0; j < 3; j++)
		set_both(p10, j, 3, 1e9);
	EXPECT("rank 3 on node0, all links by shm: 1 GB/s");
}

/* What a pair has from others of its class says nothing of its link. */
static void only_what_was_measured_is_judged(void **state)
{
	static bool measured[RANKS * RANKS];
	(void)state;
	make(12, 1);
	memset(measured, 0, sizeof(measured));
	s.measured = measured;
	for (int j = 1; j < 12; j++)
		measured[j] = measured[j * 12] = true;
	set_both(bandwidth, 2, 4, 0.3e9);
	set_both(p10, 2, 4, 0.25e9);
	expect(0, NULL);
	set_both(bandwidth, 0, 4, 0.3e9);
	set_both(p10, 0, 4, 0.25e9);
	EXPECT("rank 0 on node0 to rank 4 on node4, by tcp: 0.3 GB/s, peers have 1.");
	measured[2 * 12 + 4] = measured[4 * 12 + 2] = true; /* both that were measured are slow */
	EXPECT("host 4 (node4), all links by tcp: 0.3 GB/s, peers have 1.");
	memset(measured, 0, sizeof(measured));
	expect(0, NULL);
}

static void two_switches(void **state)
{
	(void)state;
	make(8, 1);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++)
			if ((i < 4) != (j < 4)) {
				set(bandwidth, i, j, 0.2e9);
				set(p10, i, j, 0.2e9);
			}
	EXPECT("16 of 28 pairs across hosts by tcp, such as rank 0 to rank 4: 0.2 GB/s, peers have ");
}

static void late_one_way_unsteady(void **state)
{
	(void)state;
	make(4, 1);
	set_both(latency, 1, 3, 200e-6);
	set_both(p99, 1, 3, 300e-6);
	EXPECT("rank 1 on node1 to rank 3 on node3, by tcp: latency 200 us, peers have ");
	make(2, 1);
	set(bandwidth, 1, 0, 0.5e9);
	set(p10, 1, 0, 0.5e9);
	EXPECT("rank 1 on node1 to rank 0 on node0, by tcp: 0.5 GB/s there, 1.06 back");
	make(4, 1);
	set_both(latency, 0, 2, 20e-6);
	set_both(p99, 0, 2, 5e-3);
	EXPECT("rank 0 on node0 to rank 2 on node2, by tcp: unsteady: latency ");
	make(4, 1);
	set(p10, 0, 2, 0.1e9);
	EXPECT("rank 0 on node0 to rank 2 on node2, by tcp: unsteady: 1.12 GB/s, but one burst in ten has 0.1");
	/* a busy machine, on which all are unsteady: once for all */
	make(8, 1);
	for (int i = 0; i < 64; i++)
		p10[i] = 0.1 * bandwidth[i];
	expect(0, NULL); /* like their peers */
}

static void add_device(int host, const char *name, const char *ip, uint32_t mtu, uint32_t near, uint64_t mbps)
{
	struct machine_device *d = &machines[host]->device[machines[host]->ndevices++];
	*d = (struct machine_device){
	        .kind = MACHINE_NETWORK, .state = MACHINE_UP, .mtu = mtu, .near = near, .mbps = mbps};
	strcpy(d->name, name);
	strcpy(d->ip, ip);
}

static void wrong_mtu(void **state)
{
	char ip[32];
	(void)state;
	make(4, 1);
	for (int h = 0; h < 4; h++) {
		snprintf(ip, sizeof(ip), "10.0.0.%d", h + 1);
		add_device(h, "eth0", ip, h == 2 ? 1500 : 9000, 0, 1000);
		snprintf(ip, sizeof(ip), "10.0.%d.1", h + 1); /* networks of their own may differ */
		add_device(h, "eth1", ip, 1400 + (uint32_t)h, 0, 1000);
	}
	EXPECT("host 2 (node2): eth0 has MTU 1500, 3 others on its network have 9000");
	make(2, 1);
	add_device(0, "a", "fd00::1", 9000, 0, 0);
	add_device(1, "b", "fd00::2", 1500, 0, 0);
	EXPECT("host 1 (node1): b has MTU 1500, 1 other on its network has 9000");
}

static uint32_t second_package(int host)
{
	return machines[host]->node[1].end;
}

static void far_devices_and_crowded_cores(void **state)
{
	(void)state;
	make(4, 2);
	for (int h = 0; h < 2; h++) {
		add_device(h, "slow", "10.0.0.1", 1500, 1, 1000);
		add_device(h, "fast", "10.0.1.1", 1500, second_package(h), 100000);
	}
	for (int r = 0; r < 4; r++) {
		ranks[r].bound = 1;
		cpus_add(&ranks[r].cpus, r == 1 ? 2 : 4 + (unsigned)r);
		cpus_add(&ranks[r].cpus, r == 1 ? 3 : 4 + (unsigned)r % 4);
	}
	EXPECT("host 0 (node0): ranks 1 run on another package than package 1, near which its fastest device fast is");
	make(4, 4);
	for (int r = 0; r < 4; r++) {
		ranks[r].bound = 1;
		cpus_add(&ranks[r].cpus, r == 0 ? 0 : 5);
	}
	EXPECT("host 0 (node0): ranks 1-3 are bound to one core");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(equal_links_are_not_odd),
	        cmocka_unit_test(a_slow_link),
	        cmocka_unit_test(a_slow_host_is_named_once),
	        cmocka_unit_test(only_what_was_measured_is_judged),
	        cmocka_unit_test(two_switches),
	        cmocka_unit_test(late_one_way_unsteady),
	        cmocka_unit_test(wrong_mtu),
	        cmocka_unit_test(far_devices_and_crowded_cores),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
