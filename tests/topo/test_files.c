/* SPDX-License-Identifier: MIT */
/*
 * Files of tutti-topo: written, read again and the same; faults named by line and field; and TUTTI_TOPO_FILE: what a
 * communicator makes of one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../src/comm/comm.h"
#include "../../src/topo/believe.h"
#include "../../src/topo/ring.h"
#include "../../src/util/error.h"
#include "../../tools/topo/json.h"
#include "../../tools/topo/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* after error.h: it has a macro of that name */

static char path[] = "/tmp/tutti-files-XXXXXX";

static void put(const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static char *get(void)
{
	static char text[1 << 18];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

/* A host, with two packages and a device near the second. */
#define HOST(name)                                                                                                     \
	"{\"name\": \"" name "\", \"arch\": \"x86_64\", \"cpu\": null, \"memory\": 4096, \"packages\": 2,"             \
	"\"cores\": 2, \"threads\": 2, \"may_use\": {\"cores\": 1, \"threads\": 1, \"list\": \"1\", \"quota\": 1.5},"  \
	"\"unknown\": [\"io\"], \"devices\": [{\"name\": \"eth0\", \"kind\": \"network\", \"state\": \"up\","          \
	"\"mbps\": 1000, \"address\": null, \"ip\": \"10.0.0.1\", \"pci\": null, \"mtu\": 9000,"                       \
	"\"near\": {\"type\": \"package\", \"os\": 1}}], \"tree\": {\"type\": \"host\", \"children\": ["               \
	"{\"type\": \"package\", \"os\": 0, \"children\": [{\"type\": \"core\", \"os\": 0, \"kind\": 0,"               \
	"\"children\": [{\"type\": \"thread\", \"os\": 0}]}]},"                                                        \
	"{\"type\": \"package\", \"os\": 1, \"children\": [{\"type\": \"cache\", \"level\": 3, \"bytes\": 8192,"       \
	"\"children\": [{\"type\": \"core\", \"os\": 0, \"kind\": 1, \"children\": [{\"type\": \"thread\", \"os\": 1}" \
	"]}]}]}]}}"
#define JOB                                                                                                            \
	"{\"format\": 1, \"size\": 3, \"hosts\": [" HOST("a") "," HOST("b") "," HOST(                                  \
	        "c") "],"                                                                                              \
	             "\"ranks\": [{\"host\": 0, \"memory\": 0, \"pid\": 7, \"threads\": \"0-1\"},"                     \
	             "{\"host\": 1, \"memory\": 1, \"pid\": 8, \"threads\": null},"                                    \
	             "{\"host\": 2, \"memory\": 2, \"pid\": 9, \"threads\": \"1\"}],"                                  \
	             "\"transport\": [[null, \"tcp\", \"verbs\"], [\"tcp\", null, \"tcp\"], [\"verbs\", \"tcp\", "     \
	             "null]],"                                                                                         \
	             "\"latency_us\": [[null, 10, 20], [10, null, 30], [20, 30, null]],"                               \
	             "\"bandwidth_GBps\": [[null, 1, 2], [1.5, null, 3], [2, 3, null]],"                               \
	             "\"ring\": {\"order\": [0, 2, 1], \"slowest_GBps\": 1.5, \"rank_order_slowest_GBps\": 1}}"

static void what_is_written_is_read(void **state)
{
	struct survey s;
	(void)state;
	put(JOB);
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(s.n, 3);
	assert_int_equal(s.nhosts, 3);
	struct machine *m = s.machine[2];
	assert_string_equal(m->name, "c");
	assert_int_equal(m->nnodes, 8);
	assert_int_equal(m->kinds, 2);
	assert_int_equal(m->device[0].mtu, 9000);
	assert_int_equal(m->node[m->device[0].near].os, 1);
	assert_int_equal(m->node[5].depth, 3);
	assert_true(m->quota == 1.5 && m->unknown == MACHINE_NO_IO);
	assert_true(s.rank[0].bound && !s.rank[1].bound);
	assert_string_equal(survey_via(&s, 0, 2), "verbs");
	assert_true(s.bandwidth[1 * 3 + 0] == 1.5e9);
	assert_int_equal(s.ring[1], 2);
	assert_float_equal(s.ring_rate, 1.5e9, 1);
	assert_float_equal(s.plain_rate, 1e9, 1); /* 0 2 1 0: 2, 3, 1.5; 0 1 2 0: 1, 3, 2 */

	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	char *first = strdup(get());
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	assert_string_equal(first, get());
	free(first);
}

/* The job with its first `from` replaced is refused, and the text says where. */
static void refused(const char *from, const char *to, const char *why)
{
	char text[1 << 14];
	struct survey s;
	const char *at = strstr(JOB, from);
	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - JOB), JOB, to, at + strlen(from));
	put(text);
	int rc = load_survey(&s, path);
	if (rc != TUTTI_EINVAL || !strstr(fail_text(), why) || !strstr(fail_text(), path))
		fail_msg("%s for %s: status %d, %s, not %s", to, from, rc, fail_text(), why);
	survey_free(&s);
}

static void faults_are_named(void **state)
{
	struct survey s;
	(void)state;
	refused("\"size\": 3,", "\n\"size\": 3", ":2:11: expected ',' or '}'");
	refused("\"format\": 1", "\"format\": 2", "format: expected a whole number from 1 to 1");
	refused("\"size\": 3", "\"size\": 4", "ranks: expected an array of 4");
	refused("\"size\": 3", "\"size\": -1", "size: ");
	refused("\"name\": \"b\"", "\"name\": 5", "hosts[1].name: expected a text");
	refused("\"mbps\": 1000", "\"mbps\": 1e3", "hosts[0].devices[0].mbps: expected a whole number");
	refused("\"state\": \"up\"", "\"state\": \"on\"", "hosts[0].devices[0].state: expected up, down or unknown");
	refused("\"type\": \"core\"", "\"type\": \"house\"", "hosts[0].tree.children[0].children[0].type: ");
	refused("\"type\": \"package\", \"os\": 0", "\"type\": \"host\"",
	        "children[0].type: expected a host at the root");
	refused("\"list\": \"1\"", "\"list\": \"1-\"", "hosts[0].may_use.list: ");
	refused("\"list\": \"1\"", "\"list\": \"99999\"", "hosts[0].may_use.list: ");
	refused("\"host\": 2", "\"host\": 3", "ranks[2].host: expected a whole number from 0 to 2");
	refused("\"threads\": \"1\"", "\"threads\": \"one\"", "ranks[2].threads: ");
	refused("[10, null, 30]", "[10, null]", "latency_us[1]: expected a row");
	refused("[10, null, 30]", "[10, null, -30]", "latency_us[1][2]: expected a number above 0");
	refused("[10, null, 30]", "[10, null, null]", "latency_us[1][2]: ");
	refused("\"verbs\"], [", "7], [", "transport[0][2]: expected the name");
	refused("[0, 2, 1]", "[0, 2, 2]", "ring.order: expected every rank once");
	refused("[0, 2, 1]", "[0, 2]", "ring.order: expected an array of 3");
	refused("\"bandwidth_GBps\"", "\"bandwidth\"", "bandwidth_GBps: expected an array of 3");
	put("[1]");
	assert_int_equal(load_survey(&s, path), TUTTI_EINVAL);
	survey_free(&s);
	put("<topology>");
	assert_int_equal(load_survey(&s, path), TUTTI_EINVAL);
	survey_free(&s);
	assert_int_equal(load_survey(&s, "/nonexistent/file"), TUTTI_ESYSTEM);
	survey_free(&s);
}

/* What pairs have at once, beside what they have alone; and which ways share. */
static void pairs_at_once(void **state)
{
	static const char busy[] = "\"at_once\": {\"latency_us\": [[null, 11, 21], [11, null, 31], [21, 31, null]],"
	                           "\"bandwidth_GBps\": [[null, 0.9, 1], [0.6, null, 2.9], [2, 3, null]]}, \"ring\"";
	char text[1 << 14];
	struct survey s;
	int i = -1, j = -1;
	(void)state;
	const char *at = strstr(JOB, "\"ring\"");
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - JOB), JOB, busy, at + strlen("\"ring\""));
	put(text);
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_true(s.busy.latency[2] == 21e-6 && s.busy.bandwidth[1] == 0.9e9 && !s.busy.bandwidth_p10);
	assert_true(s.bandwidth[1] == 1e9);
	assert_int_equal(survey_sharing(&s, &i, &j), 2); /* 1 of 2 and 0.6 of 1.5 */
	assert_int_equal(i, 1);
	assert_int_equal(j, 0);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	char *first = strdup(get());
	assert_non_null(strstr(first, "at_once"));
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	assert_string_equal(first, get());
	free(first);
	put(JOB);
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(survey_sharing(&s, &i, &j), 0);
	survey_free(&s);
	refused("\"ring\"", "\"at_once\": {}, \"ring\"", "at_once.latency_us: expected a matrix");
	refused("\"ring\"", "\"at_once\": 3, \"ring\"", "at_once: expected an object");
	refused("\"ring\"", "\"at_once\": {\"latency_us\": [1]}, \"ring\"",
	        "at_once.latency_us: expected an array of 3");
}

/* Some pairs stand for the others; rings then go by what pairs have at once. */
static void some_stand_for_all(void **state)
{
	static const char some[] = "\"measured\": [[0, 2]], \"groups\": [0, 1, 0], \"at_once\": {"
	                           "\"latency_us\": [[null, 11, 21], [11, null, 31], [21, 31, null]],"
	                           "\"bandwidth_GBps\": [[null, 0.9, 1], [0.6, null, 2.9], [2, 0.5, null]],"
	                           "\"measured\": [[0, 1], [1, 2]]}, \"ring\"";
	char text[1 << 14];
	struct survey s;
	int i, j;
	(void)state;
	const char *at = strstr(JOB, "\"ring\"");
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - JOB), JOB, some, at + strlen("\"ring\""));
	put(text);
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_true(survey_measured(&s, 0, 2) && survey_measured(&s, 2, 0) && !survey_measured(&s, 0, 1));
	assert_true(survey_busy_measured(&s, 2, 1) && !survey_busy_measured(&s, 0, 2));
	assert_int_equal(survey_groups(&s), 2);
	assert_int_equal(s.group[1], 1);
	assert_float_equal(s.ring_rate, 0.5e9, 1);       /* 0 2 1 0: 1, 0.5, 0.6 at once */
	assert_int_equal(survey_sharing(&s, &i, &j), 2); /* 1 to 0, 2 to 1; 0 to 2 was not measured at once */
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	char *first = strdup(get());
	assert_non_null(strstr(first, "\"groups\""));
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	assert_string_equal(first, get());
	free(first);
	refused("\"ring\"", "\"measured\": [[1, 1]], \"ring\"", "measured[0]: expected two ranks in ascending order");
	refused("\"ring\"", "\"measured\": [[0, 3]], \"ring\"", "measured[0]: expected two ranks");
	refused("\"ring\"", "\"measured\": [[0, 1], [0]], \"ring\"", "measured[1]: expected two ranks");
	refused("\"ring\"", "\"measured\": 3, \"ring\"", "measured: expected an array");
	refused("\"ring\"", "\"groups\": [0, 1], \"ring\"", "groups: expected an array of 3");
	refused("\"ring\"", "\"groups\": [0, 1, 3], \"ring\"", "groups[2]: expected a whole number");
}

/* Two memories, one of which was not measured. */
#define SPEEDS                                                                                                         \
	"{\"format\": 1, \"size\": 1, \"ranks\": [{\"host\": 0, \"memory\": 0}], \"hosts\": [{\"name\": \"a\","        \
	"\"may_use\": {\"list\": \"0-1\"}, \"unknown\": [], \"devices\": [], \"memory_GBps\": ["                       \
	"{\"node\": 4, \"cores\": 2, \"core_read\": 9, \"core_copy\": 5.5, \"read\": 17, \"copy\": 8},"                \
	"{\"node\": 7, \"cores\": 0}], \"tree\": {\"type\": \"host\", \"children\": ["                                 \
	"{\"type\": \"memory\", \"os\": 7}, {\"type\": \"memory\", \"os\": 4}, {\"type\": \"thread\", \"os\": 0}]}}]}"

static void speeds_of_memories(void **state)
{
	static const char *const wrong[][3] = {
	        {"\"node\": 4", "\"node\": 5", "hosts[0].memory_GBps[0].node: expected the number of a memory"},
	        {"\"cores\": 0", "\"cores\": 1", "hosts[0].memory_GBps[1].cores: expected core_read"},
	        {"\"cores\": 2", "\"cores\": -2", "hosts[0].memory_GBps[0].cores: expected a whole number"},
	        {"\"read\": 17", "\"read\": -17", "hosts[0].memory_GBps[0].read: expected a number above 0"},
	        {"\"memory_GBps\": [", "\"memory_GBps\": 3, \"x\": [", "hosts[0].memory_GBps: expected an array"}};
	struct survey s;
	(void)state;
	put(SPEEDS);
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(s.nspeeds, 2);
	assert_int_equal(s.machine[0]->node[s.speed[0].node].os, 4);
	assert_int_equal(s.speed[0].cores, 2);
	assert_true(s.speed[0].core_read == 9e9 && s.speed[0].core_copy == 5.5e9);
	assert_true(s.speed[0].read == 17e9 && s.speed[0].copy == 8e9);
	assert_int_equal(s.speed[1].cores, 0);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	char *first = strdup(get());
	assert_non_null(strstr(first, "\"core_copy\": 5.5"));
	assert_int_equal(load_survey(&s, path), TUTTI_OK);
	assert_int_equal(json_write(&s, NULL, path), TUTTI_OK);
	survey_free(&s);
	assert_string_equal(first, get());
	free(first);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[2048];
		const char *at = strstr(SPEEDS, wrong[i][0]);
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - SPEEDS), SPEEDS, wrong[i][1],
		         at + strlen(wrong[i][0]));
		put(text);
		assert_int_equal(load_survey(&s, path), TUTTI_EINVAL);
		if (!strstr(fail_text(), wrong[i][2]))
			fail_msg("%s, not %s", fail_text(), wrong[i][2]);
		survey_free(&s);
	}
}

/* Texts cut off anywhere: refused, and nothing else. */
static void torn_files(void **state)
{
	char text[] = JOB;
	struct survey s;
	(void)state;
	for (size_t len = sizeof(text) - 2; len > 0; len -= len > 37 ? 37 : len) {
		text[len] = '\0';
		put(text);
		assert_int_equal(load_survey(&s, path), TUTTI_EINVAL);
		survey_free(&s);
	}
}

static void deep_trees(void **state)
{
	char *text = calloc(1, 1 << 16);
	struct survey s;
	(void)state;
	strcat(text,
	       "{\"format\": 1, \"size\": 1, \"ranks\": [{\"host\": 0, \"memory\": 0}], \"hosts\": [{\"name\": \"a\","
	       "\"may_use\": {\"list\": \"0\"}, \"unknown\": [], \"devices\": [], \"tree\": {\"type\": \"host\"");
	for (int i = 0; i < 100; i++)
		strcat(text, ", \"children\": [{\"type\": \"group\"");
	for (int i = 0; i < 100; i++)
		strcat(text, "}]");
	strcat(text, "}}]}");
	put(text);
	assert_int_equal(load_survey(&s, path), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "none so deep"));
	survey_free(&s);
	free(text);
}

/* ---- what a communicator believes -------------------------------------------------------------------------------- */

static void expect_places(int n, const char *const *name, const int *near, const int *want)
{
	int place[8];
	if (believe(path, n, name, near, place) != TUTTI_OK)
		fail_msg("%s", fail_text());
	for (int r = 0; r < n; r++)
		assert_int_equal(place[r], want[r]);
}

static void hosts_are_found_by_name(void **state)
{
	static const char *const same[] = {"a", "b", "c"}, *const other[] = {"c", "a", "c", "b"};
	int place[4];
	(void)state;
	put(JOB);
	expect_places(3, same, (int[]){0, 1, 2}, (int[]){0, 2, 1});
	/* more ranks on a host than the file has: they stand with the last of it; the order of hosts is another */
	expect_places(4, other, (int[]){0, 1, 0, 2}, (int[]){1, 0, 1, 2});
	/* the second "c" is another host, and the file has one only */
	assert_int_equal(believe(path, 4, other, (int[]){0, 1, 2, 3}, place), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "rank 2 is on host \"c\""));
	assert_int_equal(believe("/nonexistent/file", 4, other, (int[]){0, 1, 2, 3}, place), TUTTI_ESYSTEM);
	assert_non_null(strstr(fail_text(), "TUTTI_TOPO_FILE"));
	put("{\"format\": 1, \"size\": 1, \"hosts\": [{\"name\": \"a\"}], \"ranks\": [{\"host\": 0}]}");
	assert_int_equal(believe(path, 1, same, (int[]){0}, place), TUTTI_EINVAL);
	assert_non_null(strstr(fail_text(), "no \"ring\""));
}

static void hosts_of_one_name(void **state)
{
	static const char *const name[] = {"x", "x", "x"};
	(void)state;
	put("{\"format\": 1, \"size\": 3, \"hosts\": [{\"name\": \"x\"}, {\"name\": \"x\"}, {\"name\": \"x\"}],"
	    "\"ranks\": [{\"host\": 0}, {\"host\": 1}, {\"host\": 2}], \"ring\": {\"order\": [0, 2, 1]}}");
	expect_places(3, name, (int[]){0, 1, 2}, (int[]){0, 2, 1});
}

static void rings_keep_hosts_together(void **state)
{
	int order[6], two[2];
	(void)state;
	/* ring 5 1 0 4 3 2; hosts 0: 0 3, 1: 1 4, 2: 2 5 */
	ring_by_host(6, (int[]){0, 1, 2, 0, 1, 2}, (int[]){2, 1, 5, 4, 3, 0}, order);
	assert_memory_equal(order, ((int[]){0, 3, 5, 2, 1, 4}), sizeof(order));
	ring_by_host(6, (int[]){0, 0, 0, 0, 0, 0}, (int[]){0, 0, 0, 0, 0, 0}, order);
	assert_memory_equal(order, ((int[]){0, 1, 2, 3, 4, 5}), sizeof(order));
	ring_by_host(2, (int[]){0, 1}, (int[]){1, 0}, two);
	assert_memory_equal(two, ((int[]){0, 1}), sizeof(two));
}

#define THREADS 4

/* Ranks that are threads: all get the file's order, their plans follow it, and the sums are right. */
static void rings_follow_the_file(void **state)
{
	struct tutti_comm *c[THREADS];
	static const int want[THREADS] = {2, 0, 3, 1}; /* after each */
	char host[64], text[400];
	(void)state;
	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	snprintf(text, sizeof(text),
	         "{\"format\": 1, \"size\": 4, \"hosts\": [{\"name\": \"%s\"}], \"ranks\": [{\"host\": 0},"
	         "{\"host\": 0}, {\"host\": 0}, {\"host\": 0}], \"ring\": {\"order\": [1, 0, 2, 3]}}",
	         host);
	put(text);
	setenv("TUTTI_TOPO_FILE", path, 1);
	if (tutti_comm_create_threads(c, THREADS, NULL) != TUTTI_OK)
		fail_msg("%s", tutti_last_error(NULL));
	unsetenv("TUTTI_TOPO_FILE");
	for (int r = 0; r < THREADS; r++) {
		struct comm_plan *p = links_plan(c[r], COLL_ALLREDUCE, algo_by_name("ring"), 0, 1);
		assert_non_null(p);
		for (int i = 0; i < p->plan->nlinks; i++)
			if (p->plan->links[i].outgoing)
				assert_int_equal(p->plan->links[i].peer, want[r]);
	}
	for (int r = 0; r < THREADS; r++)
		tutti_comm_destroy(c[r]);
}

static void a_wrong_file_ends_all(void **state)
{
	struct tutti_comm *c[THREADS];
	(void)state;
	put(JOB);
	setenv("TUTTI_TOPO_FILE", path, 1);
	assert_int_equal(tutti_comm_create_threads(c, THREADS, NULL), TUTTI_EINVAL);
	unsetenv("TUTTI_TOPO_FILE");
	assert_non_null(strstr(tutti_last_error(NULL), "TUTTI_TOPO_FILE"));
}

static int begin(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int end(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(what_is_written_is_read),
	        cmocka_unit_test(faults_are_named),
	        cmocka_unit_test(pairs_at_once),
	        cmocka_unit_test(some_stand_for_all),
	        cmocka_unit_test(speeds_of_memories),
	        cmocka_unit_test(torn_files),
	        cmocka_unit_test(deep_trees),
	        cmocka_unit_test(hosts_are_found_by_name),
	        cmocka_unit_test(hosts_of_one_name),
	        cmocka_unit_test(rings_keep_hosts_together),
	        cmocka_unit_test(rings_follow_the_file),
	        cmocka_unit_test(a_wrong_file_ends_all),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
