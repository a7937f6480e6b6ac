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

static int read_text(struct cluster *c, const char *text)
{
	strcpy(path, "/tmp/tutti-cluster-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	int rc = cluster_read(c, path);
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
	refused("[]", TUTTI_EINVAL, "\"hosts\"");
	refused("{}", TUTTI_EINVAL, "\"hosts\"");
	refused("{\"hosts\": []}", TUTTI_EINVAL, "at least one");
	refused("{\"hosts\": [3]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"count\": 0}]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"count\": 1.5}]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"gbit\": -1}]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"gbit\": \"fast\"}]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"count\": 9e99}]}", TUTTI_EINVAL, "count, ranks and gbit");
	refused("{\"hosts\": [{\"count\": 60000, \"ranks\": 60000}]}", TUTTI_EINVAL, "65536");
	refused("{\"hosts\": [{\"switch\": \"a\"}]}", TUTTI_EINVAL, "\"a\"");
	refused("{\"hosts\": [{\"switch\": 7}], \"switches\": {\"a\": {}}}", TUTTI_EINVAL, "switches");
	refused("{\"hosts\": [{}], \"switches\": {\"a\": {}}}", TUTTI_EINVAL, "uplink_gbit");
	refused("{\"hosts\": [{}], \"switches\": []}", TUTTI_EINVAL, "switches");
	refused("{\"hosts\": [{}], \"latency_us\": 0}", TUTTI_EINVAL, "latency_us");
	struct cluster c;
	assert_int_equal(cluster_read(&c, "/nonexistent/cluster"), TUTTI_ESYSTEM);
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
	        cmocka_unit_test(a_thin_uplink_is_the_limit),
	};
	return cmocka_run_group_tests_name("cluster files", tests, NULL, NULL);
}
