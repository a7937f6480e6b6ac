/* SPDX-License-Identifier: MIT */
/* Descriptions of clusters: what they say becomes routes and prices, and what is wrong with them is said. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/util/error.h" /* before cmocka, which has a macro of that name */
#include "../../tools/topo/cluster.h"

#include <cmocka.h>

static char path[] = "/tmp/tutti-cluster-XXXXXX";

static int first; /* so many ranks; 0: all */

static int read_text(struct cluster *c, const char *text)
{
	strcpy(path, "/tmp/tutti-cluster-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	struct costs costs;
	costs_priors(&costs);
	int rc = cluster_read(c, path, first, &costs);
	unlink(path);
	return rc;
}

static void refused(const char *text, int status, const char *why)
{
	struct cluster c;
	int rc = read_text(&c, text);
	if (rc != status || !strstr(fail_text(), why) || !strstr(fail_text(), "tutti-cluster-"))
		fail_msg("%s: status %d, %s", text, rc, fail_text());
}

static void mistakes_are_said(void **state)
{
	(void)state;
	refused("{", TUTTI_EINVAL, ":1:");
	refused("{\"hosts\": [{\"gbit\": NaN}]}", TUTTI_EINVAL, ":1:");
	refused("{\"hosts\":\n[{\"gbit\":\n1e999}]}", TUTTI_EINVAL, ":3:");
	refused("[]", TUTTI_EINVAL, "\"hosts\"");
	refused("{}", TUTTI_EINVAL, ":1: hosts:");
	refused("{\"hosts\": []}", TUTTI_EINVAL, "at least one");
	refused("{\"hosts\": [3]}", TUTTI_EINVAL, ":1: hosts[0]: an object");
	refused("{\"hosts\": [{\"count\": 0}]}", TUTTI_EINVAL, "hosts[0].count: a number");
	refused("{\"hosts\": [{}, {\n\"count\": 1.5}]}", TUTTI_EINVAL, ":2: hosts[1].count: a whole");
	refused("{\"hosts\": [{},\n{},\n{\"gbit\": -1}]}", TUTTI_EINVAL, ":3: hosts[2].gbit:");
	refused("{\"hosts\": [{\"switch\": \"a\",\n\"gbit\": \"fast\"}], \"switches\": {\"a\": {\"uplink_gbit\": 1}}}",
	        TUTTI_EINVAL, ":2: hosts[0].gbit:");
	refused("{\"hosts\": [{\"gbits\": 1}]}", TUTTI_EINVAL, "hosts[0].gbits: no such field");
	refused("{\"hosts\": [{\"\": 1}]}", TUTTI_EINVAL, "no such field");
	refused("{\"hosts\": [{\"gbit\": 1, \"gbit\": 2}]}", TUTTI_EINVAL, "\"gbit\" stands twice");
	refused("{\"hosts\": [{\"skew_us\": -3}]}", TUTTI_EINVAL, "skew_us");
	refused("{\"hosts\": [{\"count\": 9e99}]}", TUTTI_EINVAL, "hosts[0].count:");
	refused("{\"hosts\": [{\"count\": 1000000}]}", TUTTI_EINVAL, "hosts[0].count:");
	refused("{\"hosts\": [{},\n {\"count\": 60000, \"ranks\": 60000}]}", TUTTI_EINVAL,
	        ":2: hosts[1]: more than 65536");
	refused("{\"hosts\": [{\"switch\": \"a\"}]}", TUTTI_EINVAL, "hosts[0].switch: \"switches\" has none");
	refused("{\"hosts\": [{\"switch\": 7}], \"switches\": {}}", TUTTI_EINVAL, "hosts[0].switch: the name");
	refused("{\"hosts\": [{}], \"switches\": {\n\"b\": {\"uplink_gbit\": 1}, \"a\": {}}}", TUTTI_EINVAL,
	        ":2: switches.a: an object with uplink_gbit");
	refused("{\"hosts\": [{}], \"switches\": []}", TUTTI_EINVAL, "switches:");
	refused("{\"hosts\": [{}], \"switches\": {\"a\": {\"uplink_gbit\": 1, \"switch\": \"b\"},\n"
	        "\"b\": {\"uplink_gbit\": 1, \"switch\": \"a\"}}}",
	        TUTTI_EINVAL, "switches.a.switch: a cycle");
	refused("{\"hosts\": [{}], \"latency_us\": 0}", TUTTI_EINVAL, "latency_us:");
	refused("{\"hosts\": [{}], \"copy_ns\": \"much\"}", TUTTI_EINVAL, "copy_ns: a number");
	refused("{\"hosts\": [{}],\n\"copy_ns\": []}", TUTTI_EINVAL, ":2: copy_ns: 1 to 32 pairs");
	refused("{\"hosts\": [{}], \"copy_ns\": [0.2]}", TUTTI_EINVAL, "copy_ns[0]: pairs of bytes");
	refused("{\"hosts\": [{}], \"copy_ns\": [[1024, 0.2, 3]]}", TUTTI_EINVAL, "copy_ns[0]: pairs of bytes");
	refused("{\"hosts\": [{}], \"copy_ns\": [[1024, -0.2]]}", TUTTI_EINVAL, "copy_ns[0]: pairs of bytes");
	refused("{\"hosts\": [{}], \"copy_ns\": [[0, 0.2]]}", TUTTI_EINVAL, "copy_ns[0]: pairs of bytes");
	refused("{\"hosts\": [{}], \"copy_ns\": [[64, 0.2], [64, 0.3]]}", TUTTI_EINVAL,
	        "copy_ns[1]: more and more bytes are expected, not 64");
	struct cluster c;
	struct costs costs;
	costs_priors(&costs);
	assert_int_equal(cluster_read(&c, "/nonexistent/cluster", 0, &costs), TUTTI_ESYSTEM);
}

/* As many as a program may write by mistake: refused at once, or understood. */
static void large_ones_take_no_time(void **state)
{
	enum { MANY = 1000000 };
	char *text = malloc(MANY * 12 + 100), *p = text;
	struct cluster_file f;
	(void)state;
	p += sprintf(p, "{\"hosts\": [{}");
	for (int i = 1; i < MANY; i++)
		p += sprintf(p, ",\n{}");
	p += sprintf(p, "]}");
	assert_int_equal(cluster_file_parse(&f, text, (size_t)(p - text), "many"), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "many:65537: hosts[65536]: more than 65536 ranks"));
	p = text + sprintf(text, "{\"hosts\": [{}], \"switches\": {\"0\": {}");
	for (int i = 1; i < MANY / 10; i++)
		p += sprintf(p, ",\n\"%d\": {}", i);
	p += sprintf(p, "}}");
	assert_int_equal(cluster_file_parse(&f, text, (size_t)(p - text), "many"), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "switches: more than 65536"));
	memset(text, '[', MANY);
	assert_int_equal(cluster_file_parse(&f, text, MANY, "deep"), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "deep:1:257: "));
	free(text);
}

/* Seconds of a byte on the slowest piece of the way. */
static double slowest(const struct cluster *c, int from, int to)
{
	struct sim_route r;
	double most = 0;
	c->sim.route(&c->sim, from, to, &r);
	for (int i = 0; i < r.hops; i++) {
		assert_true(r.hop[i] >= 0 && r.hop[i] < c->sim.nresources);
		most = fmax(most, c->sim.byte[r.hop[i]]);
	}
	return most;
}

static struct sim_route route_to(const char *cores, int to)
{
	struct cluster c;
	struct sim_route r;
	char text[160];
	snprintf(text, sizeof(text),
	         "{\"hosts\": [{\"count\": 4%s], \"latency_us\": 7, \"message_us\": 2, \"frames_us\": 1.5}", cores);
	assert_int_equal(read_text(&c, text), TUTTI_OK);
	c.sim.route(&c.sim, 0, to < 0 ? c.sim.nranks - 1 : to, &r);
	cluster_free(&c);
	return r;
}

static struct sim_route route_of(const char *cores)
{
	return route_to(cores, -1);
}

/* Two ranks on each core: the one for whom a message came has its turn after two looks. */
static void ranks_on_one_core_look_in_turn(void **state)
{
	(void)state;
	assert_true(fabs(route_of("}").latency - 7e-6) < 1e-12);
	assert_true(fabs(route_of(", \"ranks\": 2, \"cores\": 2}").latency - 7e-6) < 1e-12);
	assert_true(fabs(route_of(", \"ranks\": 2, \"cores\": 1}").latency - 11e-6) < 1e-12);
	double alone = route_to(", \"ranks\": 2, \"cores\": 2}", 1).latency; /* within a host, too */
	assert_true(fabs(route_to(", \"ranks\": 2, \"cores\": 1}", 1).latency - alone - 4e-6) < 1e-12);
	assert_true(fabs(route_of("}").send - 2e-6) < 1e-12);
	assert_true(fabs(route_of("}").frames - 1.5e-6) < 1e-12);
}

/* Between points along the logarithm of the bytes; beyond them as the nearest. The model's prices go along. */
static void a_byte_costs_what_the_size_makes_it(void **state)
{
	static const struct {
		size_t bytes;
		double ns;
	} want[] = {{1, 1}, {1024, 1}, {4096, 2}, {16384, 3}, {65536, 3}, {SIZE_MAX, 3}};
	struct cluster c;
	(void)state;
	assert_int_equal(
	        read_text(&c, "{\"hosts\": [{\"count\": 2, \"gbit\": 8}], \"copy_ns\": [[1024, 1], [16384, 3]]}"),
	        TUTTI_OK);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct sim_route r;
		cluster_size(&c, want[i].bytes);
		c.sim.route(&c.sim, 0, 1, &r);
		assert_true(fabs(r.copy - want[i].ns * 1e-9) < 1e-15);
		assert_true(fabs(c.costs.link[COST_NETWORK].beta - (1 + 2 * want[i].ns) * 1e-9) < 1e-15);
		assert_true(fabs(c.costs.link[COST_LOOPBACK].beta - 2 * want[i].ns * 1e-9) < 1e-15);
	}
	cluster_free(&c);
	assert_int_equal(read_text(&c, "{\"hosts\": [{\"count\": 2}], \"copy_ns\": 0.5}"), TUTTI_OK);
	cluster_size(&c, 1 << 20);
	assert_true(fabs(c.copy - 0.5e-9) < 1e-15);
	cluster_free(&c);
}

static void ways_are_those_described(void **state)
{
	struct cluster c;
	(void)state;
	assert_int_equal(
	        read_text(&c, "{\"hosts\": [{\"count\": 2, \"ranks\": 2, \"gbit\": 8, \"switch\": \"a\"},"
	                      " {\"ranks\": 3, \"gbit\": 4, \"switch\": \"b\"}, {\"gbit\": 16, \"switch\": \"a\"}],"
	                      " \"switches\": {\"a\": {\"uplink_gbit\": 2}, \"b\": {\"uplink_gbit\": 1}},"
	                      " \"latency_us\": 7, \"message_us\": 2}"),
	        TUTTI_OK);
	assert_int_equal(c.sim.nranks, 8);
	assert_int_equal(c.nhosts, 4);
	static const int host[] = {0, 0, 1, 1, 2, 2, 2, 3};
	assert_memory_equal(c.host, host, sizeof(host));
	assert_true(fabs(slowest(&c, 0, 2) - 1e-9) < 1e-15); /* below one switch: the cable */
	assert_true(fabs(slowest(&c, 0, 4) - 8e-9) < 1e-15); /* the thinner uplink */
	assert_true(fabs(slowest(&c, 7, 0) - 1e-9) < 1e-15); /* into the slower cable */
	assert_true(slowest(&c, 0, 1) < 1e-9);               /* memory */
	struct sim_route r, back;
	c.sim.route(&c.sim, 0, 4, &r);
	c.sim.route(&c.sim, 4, 0, &back);
	assert_true(r.hops == 4 && back.hops == 4 && r.latency == 7e-6 && r.send == 2e-6);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++)
			assert_int_not_equal(r.hop[i], back.hop[k]); /* directions don't meet */
	cluster_free(&c);
}

static int hops(const struct cluster *c, int from, int to)
{
	struct sim_route r;
	c->sim.route(&c->sim, from, to, &r);
	return r.hops;
}

static void switches_hang_on_switches(void **state)
{
	struct cluster c;
	(void)state;
	assert_int_equal(
	        read_text(&c,
	                  "{\"hosts\": [{\"count\": 2, \"switch\": \"a\", \"skew_us\": 3}, {\"switch\": \"b\"},"
	                  " {\"switch\": \"x\"}, {\"gbit\": 2, \"gbit_in\": 4}], \"switches\": {\"a\":"
	                  " {\"uplink_gbit\": 4, \"switch\": \"x\"}, \"b\": {\"uplink_gbit\": 2, \"switch\": \"x\"},"
	                  " \"x\": {\"uplink_gbit\": 0.5}}}"),
	        TUTTI_OK);
	assert_int_equal(hops(&c, 0, 1), 2);
	assert_int_equal(hops(&c, 0, 2), 4); /* up a, down b, not beyond x */
	assert_int_equal(hops(&c, 0, 3), 3);
	assert_int_equal(hops(&c, 4, 0), 4); /* down x and a */
	assert_true(fabs(slowest(&c, 0, 4) - 16e-9) < 1e-15);
	assert_true(fabs(c.byte[c.cable[4]] - 4e-9) < 1e-15 && fabs(c.byte[c.cable[4] + 1] - 2e-9) < 1e-15);
	assert_true(c.sim.skew[1] == 3e-6 && c.sim.skew[2] == 0 && c.sim.units == 1);
	cluster_free(&c);
}

static void units_are(const char *text, int units)
{
	struct cluster c;
	assert_int_equal(read_text(&c, text), TUTTI_OK);
	if (c.sim.units != units)
		fail_msg("%s: %d units, not %d", text, c.sim.units, units);
	cluster_free(&c);
}

static void equal_parts_are_found(void **state)
{
#define RACK(name, gbit)                                                                                               \
	"{\"count\": 3, \"ranks\": 2, \"switch\": \"" name "\"}, {\"switch\": \"" name "\", \"gbit\": " gbit "}"
#define UPLINKS(b, more)                                                                                               \
	", \"switches\": {\"a\": {\"uplink_gbit\": 1" more "}, \"b\": {\"uplink_gbit\": " b more                       \
	"}, \"c\": {\"uplink_gbit\": 9}}}"
	(void)state;
	units_are("{\"hosts\": [{\"count\": 12, \"ranks\": 8}]}", 12);
	units_are("{\"hosts\": [{\"count\": 12, \"ranks\": 8, \"cores\": 4}]}", 12);
	units_are("{\"hosts\": [{\"count\": 12, \"ranks\": 8}], \"cores\": 4}", 1);
	units_are("{\"hosts\": [{\"count\": 5}, {\"count\": 1, \"gbit\": 2}]}", 1);
	units_are("{\"hosts\": [{}, {\"gbit\": 2}, {}, {\"gbit\": 2}]}", 2);
	units_are("{\"hosts\": [{}, {\"skew_us\": 2}, {}, {}]}", 1);
	units_are("{\"hosts\": [" RACK("a", "2") ", " RACK("b", "2") "]" UPLINKS("1", ""), 2);
	units_are("{\"hosts\": [" RACK("a", "2") ", " RACK("b", "3") "]" UPLINKS("1", ""), 1);
	units_are("{\"hosts\": [" RACK("a", "2") ", " RACK("b", "2") "]" UPLINKS("3", ""), 1);
	units_are("{\"hosts\": [" RACK("a", "2") ", " RACK("b", "2") "]" UPLINKS("1", ", \"switch\": \"c\""), 1);
}

static void the_first_ranks_are_a_cluster(void **state)
{
	static const char text[] =
	        "{\"hosts\": [{\"count\": 2, \"ranks\": 3, \"gbit\": 2}, {\"count\": 2, \"ranks\": 2}]}";
	static const int host[] = {0, 0, 0, 1, 1, 1, 2, 2, 3, 3}, hosts[] = {1, 1, 1, 2, 2, 2, 3, 3, 4, 4};
	struct cluster c;
	(void)state;
	for (first = 1; first <= 10; first++) {
		assert_int_equal(read_text(&c, text), TUTTI_OK);
		assert_int_equal(c.sim.nranks, first);
		assert_int_equal(c.nhosts, hosts[first - 1]);
		assert_memory_equal(c.host, host, (size_t)first * sizeof(int));
		assert_true(fabs(c.byte[c.cable[c.nhosts - 1]] - (first > 6 ? 8e-9 : 4e-9)) < 1e-15);
		cluster_free(&c);
	}
	refused(text, TUTTI_EINVAL, "10 ranks, not 11");
	first = 0;
}

/* 16 ranks behind two uplinks of 1 Gbit/s: what a hierarchy of rings needs is known, and it gets it. */
static void a_thin_uplink_is_the_limit(void **state)
{
	struct cluster c;
	struct sim_result r;
	(void)state;
	assert_int_equal(read_text(&c, "{\"hosts\": [{\"count\": 4, \"ranks\": 2, \"gbit\": 10, \"switch\": \"a\"},"
	                               " {\"count\": 4, \"ranks\": 2, \"gbit\": 10, \"switch\": \"b\"}],"
	                               " \"switches\": {\"a\": {\"uplink_gbit\": 1}, \"b\": {\"uplink_gbit\": 1}}}"),
	                 TUTTI_OK);
	struct sim_call call = {.coll = COLL_ALLREDUCE,
	                        .algo = algo_by_name("hierarchy-ring"),
	                        .channels = 1,
	                        .shape = &c.shape,
	                        .count = 16 << 20,
	                        .esize = 4,
	                        .slot = 128 << 10,
	                        .slots = 4};
	assert_int_equal(sim_run(&c.sim, &call, &r), TUTTI_OK);
	double floor = 2 * 7.0 / 8 * (64 << 20) * 8e-9;
	if (r.seconds < floor || r.seconds > 1.1 * floor)
		fail_msg("%g s where the uplink needs %g", r.seconds, floor);
	cluster_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mistakes_are_said),
	        cmocka_unit_test(ways_are_those_described),
	        cmocka_unit_test(large_ones_take_no_time),
	        cmocka_unit_test(switches_hang_on_switches),
	        cmocka_unit_test(equal_parts_are_found),
	        cmocka_unit_test(the_first_ranks_are_a_cluster),
	        cmocka_unit_test(a_thin_uplink_is_the_limit),
	        cmocka_unit_test(ranks_on_one_core_look_in_turn),
	        cmocka_unit_test(a_byte_costs_what_the_size_makes_it),
	};
	return cmocka_run_group_tests_name("cluster files", tests, NULL, NULL);
}
