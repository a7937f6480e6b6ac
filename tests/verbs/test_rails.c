/* SPDX-License-Identifier: MIT */
/*
 * Which devices the verbs transport takes, several of them as rails, and how rdma_cm connects them: on the imaginary
 * device.
 */
#include "sea.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sys/stat.h>

/* ---- which port is used, and why none ---------------------------------------------------------------------------- */

static char listed[1000];
static void list_line(void *ctx, const char *text)
{
	size_t n = strlen(listed);
	(void)ctx;
	snprintf(listed + n, sizeof(listed) - n, "%s\n", text);
}

/* The port that is chosen, or why none is. */
static const char *opened(void)
{
	struct params p;
	struct device d = {0};
	char gid[GID_TEXT];
	assert_int_equal(params_read(&p), TUTTI_OK);
	if (device_open(&d, &p, p.verbs_device) == TUTTI_OK)
		snprintf(listed, sizeof(listed), "%s %s %s", d.name, gid_text(&d, gid), device_mode_name(&d));
	else
		snprintf(listed, sizeof(listed), "%s", tutti_last_error(NULL));
	device_close(&d);
	params_free(&p);
	return listed;
}

static void opened_with(const char *name, const char *value, const char *want)
{
	setenv(name, value, 1);
	if (!strstr(opened(), want))
		fail_msg("%s=%s: \"%s\" does not say \"%s\"", name, value, listed, want);
	unsetenv(name);
	setenv("TUTTI_VERBS_LIB", library, 1);
}

static void test_choice_of_a_port(void **state)
{
	struct params p;
	(void)state;
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1 GID 4 (RoCE v2 10.77.0.");
	opened_with("TUTTI_VERBS_GID", "2", "GID 2 (RoCE v2 fe80::");
	opened_with("TUTTI_VERBS_GID", "0", "no entry at TUTTI_VERBS_GID=0");
	opened_with("TUTTI_VERBS_DEVICE", "imaginary0:1", "imaginary0:1 GID 4");
	opened_with("TUTTI_VERBS_DEVICE", "imaginary0:2", "no RDMA device matches");
	opened_with("TUTTI_VERBS_QP", "mtu=1024,speed=3", "TUTTI_VERBS_QP=mtu=1024,speed=3: at \"speed=3\"");
	opened_with("TUTTI_VERBS_LIB", "libnothing.so.9", "libnothing.so.9 cannot be loaded");
	opened_with("TUTTI_VERBS_LIB", "libm.so.6", "libm.so.6 has no ibv_");
	sea->knobs.uc_only = true;
	opened_with("TUTTI_VERBS_MODE", "auto", " uc");
	opened_with("TUTTI_VERBS_MODE", "write", "it does not support RC queue pairs");
	opened_with("TUTTI_VERBS_CONNECT", "cm", "it does not support RC queue pairs, which rdma_cm needs");
	calm_sea(NULL);
	sea->knobs.no_gid = true;
	opened_with("TUTTI_VERBS_MODE", "auto", "it has no GID");
	calm_sea(NULL);
	for (int i = 0; i < IMAGINARY_CARDS; i++)
		atomic_store(&sea->knobs.down[i], 1);
	opened_with("TUTTI_VERBS_MODE", "auto", "it is down: check");
	calm_sea(NULL);
	sea->knobs.max_pinned = 65536;
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1: cannot register 1024 KiB of memory: ");
	calm_sea(NULL);
	*listed = '\0';
	assert_int_equal(params_read(&p), TUTTI_OK);
	assert_int_equal(devices_list(&p, list_line, NULL), TUTTI_OK);
	assert_non_null(strstr(listed, "imaginary0:1: yes, GID 4 (RoCE v2 10.77.0."));
	assert_non_null(strstr(listed, "imaginary1:1: yes, GID 4 (RoCE v2 10.77.1."));
	assert_non_null(strstr(listed, "100000 Mb/s, near"));
	params_free(&p);
}

/* One question for a table of 1024 entries; of an old library as many as are in it, and a run of empty ones. */
static void test_few_questions(void **state)
{
	(void)state;
	opened_with("TUTTI_VERBS_MODE", "auto", "GID 4");
	assert_int_equal(sea->counts.asked, 1);
	calm_sea(NULL);
	sea->knobs.no_gid_table = true;
	opened_with("TUTTI_VERBS_MODE", "auto", "GID 4");
	assert_in_range(sea->counts.asked, 5, 30);
}

/* What sysfs says of a device's CPUs. */
static void attach_to(const char *sysfs, int device, const char *cpus)
{
	char path[200];
	FILE *f;
	snprintf(path, sizeof(path), "%s/imaginary%d", sysfs, device);
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	strcat(path, "/device");
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	strcat(path, "/local_cpulist");
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", cpus);
	fclose(f);
}

static int a_cpu_of_mine(void)
{
	cpu_set_t mine;
	int cpu = 0;
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	while (!CPU_ISSET(cpu, &mine))
		cpu++;
	return cpu;
}

static void test_the_best_port(void **state)
{
	char sysfs[] = "/tmp/imaginary-sysfs-XXXXXX", command[100], mine[40];
	(void)state;
	sea->knobs.devices = 3;
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1");
	sea->knobs.speed[2] = 64; /* 50 Gb/s a lane */
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary2:1");
	atomic_store(&sea->knobs.device_down[2], 1);
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1");
	atomic_store(&sea->knobs.device_down[2], 0);
	assert_non_null(mkdtemp(sysfs));
	snprintf(sea->knobs.sysfs, sizeof(sea->knobs.sysfs), "%s", sysfs);
	snprintf(mine, sizeof(mine), "900-902,%d", a_cpu_of_mine());
	for (int i = 0; i < 3; i++)
		attach_to(sysfs, i, i == 1 ? mine : "900-902");
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary1:1"); /* the nearest, though it is not the fastest */
	attach_to(sysfs, 2, "nonsense"); /* then it is not known to be far, and the fastest again */
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary2:1");
	attach_to(sysfs, 2, ""); /* memory without CPUs */
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary1:1");
	opened_with("TUTTI_VERBS_DEVICE", "imaginary0", "imaginary0:1");
	snprintf(command, sizeof(command), "rm -r %s", sysfs);
	assert_int_equal(system(command), 0);
}

/* ---- rails ------------------------------------------------------------------------------------------------------- */

/* Names for each rank. */
static const char *const *rails;
static void on_its_own_rails(int rank, void *arg)
{
	on_its_own_host(rank, arg);
	setenv("TUTTI_VERBS_DEVICE", rails[rank], 1);
}

static int run_on(int n, const char *const *names, const char *mode)
{
	const char *env[] = {"TUTTI_TRANSPORT=verbs", "TUTTI_LOG=error", "TUTTI_CHANNELS=2", mode, NULL};
	struct ranks how = {.n = n, .env = env, .seconds = 60, .start = RANKS_BY_ID, .before = on_its_own_rails};
	struct scene *s = scene_new();
	int failed;
	rails = names;
	failed = ranks_run(&how, reduces, s);
	ranks_unshare(s, sizeof(*s));
	return failed;
}

static void test_channels_are_spread(void **state)
{
	static const char *const both[] = {"imaginary0,imaginary1", "imaginary0,imaginary1", "imaginary0,imaginary1"};
	(void)state;
	for (int m = 0; m < 3; m++) {
		assert_int_equal(run_on(3, both, modes[m]), 0);
		for (int i = 0; i < 2; i++)
			assert_true(sea->counts.sent[i] > sea->counts.bytes / 4);
		nothing_was_lost();
		calm_sea(NULL);
	}
}

/* Ranks use rails of the same number; if there is none, the first of each. */
static void test_uneven_rails(void **state)
{
	static const char *const second[] = {"imaginary0,imaginary1", "nothing,imaginary1"};
	static const char *const one[] = {"imaginary0,imaginary1", "imaginary1"};
	static const char *const other[] = {"imaginary0,nothing", "nothing,imaginary1"};
	(void)state;
	assert_int_equal(run_on(2, second, modes[0]), 0);
	assert_true(sea->counts.sent[0] == 0 && sea->counts.sent[1] > 0);
	calm_sea(NULL);
	assert_int_equal(run_on(2, one, modes[0]), 0);
	assert_true(sea->counts.sent[0] > 0 && sea->counts.sent[1] > 0);
	calm_sea(NULL);
	assert_int_equal(run_on(2, other, modes[0]), 0);
	assert_true(sea->counts.sent[0] > 0 && sea->counts.sent[1] > 0);
}

static void test_a_rail_goes_down(void **state)
{
	struct scene *s = failing(TUTTI_EPEER, "imaginary1:1", "port error", "rank");
	(void)state;
	s->device = 1;
	assert_int_equal(run(2, s, port_goes_down, "TUTTI_VERBS_DEVICE=imaginary0,imaginary1", "TUTTI_CHANNELS=2",
	                     "TUTTI_TRANSPORT=verbs,tcp"),
	                 0);
}

/* ---- rdma_cm ----------------------------------------------------------------------------------------------------- */

static struct scene *short_scene(void)
{
	struct scene *s = scene_new();
	s->most_bytes = 100000; /* it is about connecting */
	return s;
}

static void test_connected_by_cm(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		assert_int_equal(run(3, short_scene(), reduces, modes[m], "TUTTI_VERBS_CONNECT=cm", NULL), 0);
		nothing_was_lost();
		calm_sea(NULL);
	}
	assert_int_equal(run(2, short_scene(), reduces, modes[0], "TUTTI_VERBS_CONNECT=cm",
	                     "TUTTI_VERBS_DEVICE=imaginary0,imaginary1"),
	                 0);
}

static bool has_address(void)
{
	struct ifaddrs *all = NULL;
	bool found = false;
	assert_int_equal(getifaddrs(&all), 0);
	for (struct ifaddrs *i = all; i && !found; i = i->ifa_next)
		found = i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !(i->ifa_flags & IFF_LOOPBACK);
	freeifaddrs(all);
	return found;
}

/* iWARP has rdma_cm only, which brings the queue pairs up by itself, and no immediates: slots are sent. */
static void test_iwarp(void **state)
{
	(void)state;
	if (!has_address()) {
		print_message("no network interface with an IPv4 address, which iWARP needs\n");
		skip();
	}
	sea->knobs.iwarp = true;
	opened_with("TUTTI_VERBS_MODE", "auto", "imaginary0:1 iWARP send");
	opened_with("TUTTI_VERBS_MODE", "write", "iWARP has no immediate data");
	opened_with("TUTTI_VERBS_MODE", "uc", "rdma_cm can't connect UC queue pairs");
	opened_with("TUTTI_VERBS_CONNECT", "exchange", "it speaks iWARP, which needs TUTTI_VERBS_CONNECT=cm");
	assert_int_equal(run(3, short_scene(), reduces, "TUTTI_VERBS_MODE=auto", NULL, NULL), 0);
	assert_int_equal(atomic_load(&sea->counts.writes), 0);
	assert_true(atomic_load(&sea->counts.sends) > 0);
	nothing_was_lost();
	sea->knobs.cm_strange = 2;
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "a process other than rank 1", "rdma_cm"),
	                     until_it_fails, "TUTTI_VERBS_MODE=auto", NULL, NULL),
	                 0);
}

/* A connection without the token is refused, and so is an answer without its other half. */
static void test_strangers(void **state)
{
	(void)state;
	sea->knobs.cm_strange = 1;
	assert_int_equal(run(2,
	                     failing(TUTTI_EPEER, "imaginary0:1", "rdma_cm can't connect to rank 1 at 10.77.0.",
	                             "RDMA_CM_EVENT_REJECTED (status 28)"),
	                     until_it_fails, modes[0], "TUTTI_VERBS_CONNECT=cm", NULL),
	                 0);
	sea->knobs.cm_strange = 2;
	assert_int_equal(run(2, failing(TUTTI_EPEER, "imaginary0:1", "a process other than rank 1", "rdma_cm"),
	                     until_it_fails, modes[0], "TUTTI_VERBS_CONNECT=cm", NULL),
	                 0);
}

static void test_not_reached(void **state)
{
	(void)state;
	sea->knobs.cm_event = 7; /* RDMA_CM_EVENT_UNREACHABLE */
	assert_int_equal(run(2,
	                     failing(TUTTI_EPEER, "imaginary0:1", "rdma_cm can't connect to rank 1 at 10.77.0.",
	                             "RDMA_CM_EVENT_UNREACHABLE"),
	                     until_it_fails, modes[0], "TUTTI_VERBS_CONNECT=cm", NULL),
	                 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        SEA_TEST(test_choice_of_a_port), SEA_TEST(test_few_questions),
	        SEA_TEST(test_the_best_port),    SEA_TEST(test_channels_are_spread),
	        SEA_TEST(test_uneven_rails),     SEA_TEST(test_a_rail_goes_down),
	        SEA_TEST(test_connected_by_cm),  SEA_TEST(test_strangers),
	        SEA_TEST(test_not_reached),      SEA_TEST(test_iwarp),
	};
	return run_all("rails", tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
