/* SPDX-License-Identifier: MIT */
/* Launchers: what each environment means, that garbage is refused by name, and that jobs don't get mixed up. */
#include "../../src/launch/launch.h"
#include "../../src/util/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* "NAME=value" lines, ended by NULL. */
static const char *lookup(void *ctx, const char *name)
{
	size_t n = strlen(name);

	for (const char *const *line = ctx; *line; line++)
		if (strncmp(*line, name, n) == 0 && (*line)[n] == '=')
			return *line + n + 1;
	return NULL;
}

static const struct params unset = {.rank = -1, .root_fd = -1, .local_rank = -1};
static const struct params with_secret = {.rank = -1, .root_fd = -1, .local_rank = -1, .secret = "s"};

#define ENV(...) ((void *)(const char *const[]){__VA_ARGS__, NULL})
#define NOTHING  ((void *)(const char *const[]){NULL})

static void expect(const struct params *p, void *env, const char *launcher, int rank, int size, const char *root)
{
	struct launch l;
	int rc = launch_read(&l, p, lookup, env);

	if (rc != TUTTI_OK)
		fail_msg("%s", fail_text());
	assert_string_equal(l.launcher, launcher);
	assert_int_equal(l.rank, rank);
	assert_int_equal(l.size, size);
	assert_string_equal(l.root.text, root);
	assert_int_equal(l.root.naddrs, 0);
}

/* All ranks on this host: loopback ports that depend on the job. */
static struct launch expect_local(void *env, const char *launcher, int rank, int size)
{
	struct launch l;

	if (launch_read(&l, &unset, lookup, env) != TUTTI_OK)
		fail_msg("%s", fail_text());
	assert_string_equal(l.launcher, launcher);
	assert_int_equal(l.rank, rank);
	assert_int_equal(l.size, size);
	assert_int_equal(l.root.naddrs, NET_ADDRS);
	assert_true(l.key.open);
	for (int i = 0; i < NET_ADDRS; i++) {
		assert_int_equal(l.root.addrs[i].family, 4);
		assert_memory_equal(l.root.addrs[i].ip, "\x7f\0\0\x01", 4);
		assert_in_range(l.root.addrs[i].port, 20000, 32767);
		for (int j = 0; j < i; j++)
			assert_int_not_equal(l.root.addrs[i].port, l.root.addrs[j].port);
	}
	return l;
}

static void refuse(const struct params *p, void *env, int status, const char *a, const char *b)
{
	struct launch l;

	assert_int_equal(launch_read(&l, p, lookup, env), status);
	if (!strstr(fail_text(), a) || !strstr(fail_text(), b))
		fail_msg("expected \"%s\" and \"%s\" in: %s", a, b, fail_text());
}

static bool same_root(const struct launch *a, const struct launch *b)
{
	return memcmp(a->root.addrs, b->root.addrs, sizeof(a->root.addrs)) == 0;
}

static bool same_key(const struct launch *a, const struct launch *b)
{
	return memcmp(a->key.bytes, b->key.bytes, AUTH_KEY) == 0;
}

static void test_alone(void **state)
{
	struct params p = unset;

	(void)state;
	expect(&unset, NOTHING, "alone", 0, 1, "");
	expect(&unset, ENV("WORLD_SIZE=4", "PMI_SIZE=3", "SLURM_NTASKS=2"), "alone", 0, 1, "");
	expect(&unset, ENV("RANK="), "alone", 0, 1, "");
	expect(&unset, ENV("RANK=0"), "alone", 0, 1, "");
	expect(&unset, ENV("SLURM_PROCID=0", "MLX_RANK=0"), "alone", 0, 1, "");
	p.root = "h:1";
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_ROOT=h:1", "TUTTI_RANK");
}

static void test_explicit(void **state)
{
	struct params p = {.rank = 2, .size = 3, .root = "head:7000", .root_fd = 5, .secret = "s"};
	struct launch l;

	(void)state;
	expect(&p, NOTHING, "tutti", 2, 3, "head:7000");
	expect(&p, ENV("RANK=0", "WORLD_SIZE=8", "OMPI_COMM_WORLD_RANK=x"), "tutti", 2, 3, "head:7000");
	assert_int_equal(launch_read(&l, &p, lookup, NOTHING), TUTTI_OK);
	assert_int_equal(l.root.listen_fd, -1);
	assert_false(l.key.open);
	p.rank = 0;
	assert_int_equal(launch_read(&l, &p, lookup, NOTHING), TUTTI_OK);
	assert_int_equal(l.root.listen_fd, 5);
	p.rank = 3;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_RANK=3", "TUTTI_SIZE=3");
	p.rank = -1;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_RANK=-1", "TUTTI_SIZE=3");
	p.rank = 0;
	p.size = 0;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_SIZE=0", "TUTTI_RANK");
	p.size = INT64_C(1) << 32;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_SIZE=4294967296", "");
	p.size = 2;
	p.root = NULL;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_ROOT", "host:port");
}

static void test_root_forms(void **state)
{
	static const char *const good[] = {"h:1", "10.0.0.1:65535", "[fe80::1%eth0]:9"};
	static const char *const bad[] = {"h", "h:", "h:0", "h:65536", ":1", "h:1x", "::1:5", "fe80::1:5"};
	struct params p = {.rank = 1, .size = 2, .root_fd = -1, .secret = "s"};
	char text[400];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		p.root = good[i];
		expect(&p, NOTHING, "tutti", 1, 2, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		p.root = bad[i];
		refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_ROOT=", bad[i]);
	}
	memset(text, 'h', sizeof(text));
	strcpy(text + sizeof(text) - 4, ":80");
	p.root = text;
	refuse(&p, NOTHING, TUTTI_EINVAL, "TUTTI_ROOT=hhh", "");
}

static void test_torchrun(void **state)
{
	(void)state;
	expect(&with_secret,
	       ENV("RANK=3", "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=node7", "MASTER_PORT=29500"),
	       "torchrun", 3, 4, "node7:29501");
	expect(&with_secret, ENV("RANK=3", "WORLD_SIZE=4", "MASTER_ADDR=fd00::1", "MASTER_PORT=29500"), "torchrun", 3,
	       4, "[fd00::1]:29501");
	expect(&unset, ENV("RANK=0", "WORLD_SIZE=1"), "torchrun", 0, 1, "");
	expect_local(ENV("RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=node7", "MASTER_PORT=1"),
	             "torchrun", 1, 2);
	expect_local(ENV("RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=localhost", "MASTER_PORT=1"), "torchrun", 1, 2);
	refuse(&unset, ENV("RANK=1"), TUTTI_EINVAL, "WORLD_SIZE", "torchrun");
	expect_local(ENV("RANK=0", "PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALNRANKS=2"), "pmi", 1, 2);
	refuse(&unset, ENV("RANK=2", "WORLD_SIZE=2"), TUTTI_EINVAL, "RANK=2", "WORLD_SIZE=2");
	refuse(&unset, ENV("RANK=-1", "WORLD_SIZE=2"), TUTTI_EINVAL, "RANK=-1", "from 0");
	refuse(&unset, ENV("RANK=1x", "WORLD_SIZE=2"), TUTTI_EINVAL, "RANK=1x", "number");
	refuse(&unset, ENV("RANK=0", "WORLD_SIZE=99999999999"), TUTTI_EINVAL, "WORLD_SIZE=99999999999", "");
	refuse(&unset, ENV("RANK=0", "WORLD_SIZE=2"), TUTTI_EINVAL, "MASTER_ADDR", "");
	refuse(&unset, ENV("RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=h"), TUTTI_EINVAL, "MASTER_PORT", "");
	refuse(&unset, ENV("RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=h", "MASTER_PORT=65535"), TUTTI_EINVAL,
	       "MASTER_PORT=65535", "");
	refuse(&unset, ENV("RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=3"), TUTTI_EINVAL, "LOCAL_WORLD_SIZE=3", "");
}

static void test_openmpi(void **state)
{
	struct launch a = expect_local(ENV("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2",
	                                   "OMPI_COMM_WORLD_LOCAL_SIZE=2", "PMIX_NAMESPACE=1948844033"),
	                               "openmpi", 0, 2);
	struct launch b = expect_local(ENV("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2",
	                                   "OMPI_COMM_WORLD_LOCAL_SIZE=2", "PMIX_NAMESPACE=1948844033"),
	                               "openmpi", 1, 2);
	struct launch other = expect_local(ENV("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2",
	                                       "OMPI_COMM_WORLD_LOCAL_SIZE=2", "OMPI_MCA_ess_base_jobid=7"),
	                                   "openmpi", 1, 2);
	struct params p = with_secret;

	(void)state;
	assert_true(same_root(&a, &b) && same_key(&a, &b));
	assert_false(same_root(&a, &other));
	assert_false(same_key(&a, &other));
	refuse(&with_secret, ENV("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2"),
	       TUTTI_EINVAL, "TUTTI_ROOT=host:port", "rank 1 of 4");
	p.root = "node1:7";
	expect(&p, ENV("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2"), "openmpi",
	       1, 4, "node1:7");
}

static void test_pmi(void **state)
{
	struct launch a = expect_local(ENV("PMI_RANK=0", "PMI_SIZE=2", "MPI_LOCALNRANKS=2"), "pmi", 0, 2);
	struct launch b = expect_local(ENV("PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALNRANKS=2"), "pmi", 1, 2);
	struct launch c =
	        expect_local(ENV("PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALNRANKS=2", "PMI_JOBID=j"), "pmi", 1, 2);

	(void)state;
	assert_true(same_root(&a, &b) && same_key(&a, &b));
	assert_false(same_key(&a, &c));
	refuse(&with_secret, ENV("PMI_RANK=0", "PMI_SIZE=3", "MPI_LOCALNRANKS=2"), TUTTI_EINVAL, "TUTTI_ROOT", "pmi");
	refuse(&unset, ENV("PMI_RANK=3", "PMI_SIZE=3"), TUTTI_EINVAL, "PMI_RANK=3", "PMI_SIZE=3");
}

static void test_slurm(void **state)
{
	static const struct {
		const char *list, *host;
	} lists[] = {
	        {"SLURM_JOB_NODELIST=gpu1", "gpu1"},
	        {"SLURM_JOB_NODELIST=a,b", "a"},
	        {"SLURM_JOB_NODELIST=node[03-05,9],gpu1", "node03"},
	        {"SLURM_JOB_NODELIST=node[7]", "node7"},
	        {"SLURM_JOB_NODELIST=rack[1-2]node[4,5]-ib,x", "rack1node4-ib"},
	};
	static const char *const bad[] = {"SLURM_JOB_NODELIST=,a", "SLURM_JOB_NODELIST=n[1", "SLURM_JOB_NODELIST=[]"};
	struct launch l, next;

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		void *env =
		        ENV("SLURM_PROCID=1", "SLURM_NTASKS=4", "SLURM_JOB_ID=12", "SLURM_STEP_ID=0", lists[i].list);
		if (launch_read(&l, &with_secret, lookup, env) != TUTTI_OK)
			fail_msg("%s", fail_text());
		assert_int_equal(strncmp(l.root.text, lists[i].host, strlen(lists[i].host)), 0);
		assert_int_equal(l.root.text[strlen(lists[i].host)], ':');
		assert_in_range(atoi(l.root.text + strlen(lists[i].host) + 1), 20000, 32767);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuse(&with_secret,
		       ENV("SLURM_PROCID=1", "SLURM_NTASKS=4", "SLURM_JOB_ID=12", "SLURM_STEP_ID=0", bad[i]),
		       TUTTI_EINVAL, "SLURM_JOB_NODELIST=", "");
	l = expect_local(
	        ENV("SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_JOB_ID=12", "SLURM_STEP_ID=0", "SLURM_NNODES=1"),
	        "slurm", 0, 2);
	next = expect_local(
	        ENV("SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_JOB_ID=12", "SLURM_STEP_ID=1", "SLURM_NNODES=1"),
	        "slurm", 0, 2);
	assert_false(same_key(&l, &next));
	refuse(&unset, ENV("SLURM_PROCID=1"), TUTTI_EINVAL, "SLURM_NTASKS", "slurm");
	refuse(&unset, ENV("SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_STEP_ID=0"), TUTTI_EINVAL, "SLURM_JOB_NODELIST",
	       "");
	refuse(&unset, ENV("SLURM_PROCID=5", "SLURM_NTASKS=2"), TUTTI_EINVAL, "SLURM_PROCID=5", "SLURM_NTASKS=2");
}

static void test_mlx(void **state)
{
	static const char ring[] = "MLX_HOSTFILE=[[\"10.0.0.1:5000\",\"10.0.1.1:5001\"],[\"10.0.0.2:5000\"]]";

	(void)state;
	expect(&with_secret, ENV("MLX_RANK=1", ring), "mlx", 1, 2, "10.0.0.1:5000");
	expect(&unset, ENV("MLX_RANK=0", "MLX_HOSTFILE=[[\"127.0.0.1:5000\"],[\"127.0.0.1:5001\"]]"), "mlx", 0, 2,
	       "127.0.0.1:5000");
	expect(&with_secret,
	       ENV("MLX_RANK=1", "MLX_JACCL_COORDINATOR=10.0.0.9:7", "MLX_IBV_DEVICES=[[null],[null],[null]]"), "mlx",
	       1, 3, "10.0.0.9:7");
	expect(&with_secret, ENV("MLX_RANK=1", "MLX_JACCL_COORDINATOR=10.0.0.9:7", "MLX_WORLD_SIZE=4"), "mlx", 1, 4,
	       "10.0.0.9:7");
	refuse(&with_secret, ENV("MLX_RANK=2", ring), TUTTI_EINVAL, "MLX_RANK=2", "from 0 to 1");
	refuse(&with_secret, ENV("MLX_RANK=1", ring, "MLX_WORLD_SIZE=3"), TUTTI_EINVAL, "MLX_WORLD_SIZE=3", "2 ranks");
	refuse(&with_secret, ENV("MLX_RANK=1"), TUTTI_EINVAL, "MLX_IBV_DEVICES", "mlx");
	refuse(&with_secret, ENV("MLX_RANK=1", "MLX_WORLD_SIZE=2"), TUTTI_EINVAL, "MLX_JACCL_COORDINATOR", "");
	refuse(&with_secret, ENV("MLX_RANK=0", "MLX_HOSTFILE=/nonexistent/hosts.json"), TUTTI_EINVAL,
	       "MLX_HOSTFILE=/nonexistent", "");
	refuse(&with_secret, ENV("MLX_RANK=0", "MLX_HOSTFILE=[1, {\"a\":2}]"), TUTTI_EINVAL, "MLX_HOSTFILE",
	       "host:port");
	refuse(&with_secret, ENV("MLX_RANK=0", "MLX_HOSTFILE=[[\"nowhere\"],[]]"), TUTTI_EINVAL, "MLX_HOSTFILE=nowhere",
	       "");
}

static void test_mixed(void **state)
{
	(void)state;
	/* torchrun inside a Slurm step; mpirun inside a batch script */
	expect(&with_secret,
	       ENV("SLURM_PROCID=0", "SLURM_NTASKS=2", "RANK=3", "WORLD_SIZE=8", "MASTER_ADDR=n", "MASTER_PORT=9"),
	       "torchrun", 3, 8, "n:10");
	expect_local(ENV("SLURM_PROCID=0", "SLURM_NTASKS=4", "OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=3",
	                 "OMPI_COMM_WORLD_LOCAL_SIZE=3"),
	             "openmpi", 2, 3);
}

static void test_secret(void **state)
{
	struct params p = {.rank = 1, .size = 2, .root = "head:7000", .root_fd = -1};
	char dir[] = "/tmp/tutti-launch-XXXXXX", path[128];
	struct launch a, b;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("XDG_CONFIG_HOME", dir, 1), 0);
	refuse(&p, NOTHING, TUTTI_EAUTH, dir, "several hosts");
	snprintf(path, sizeof(path), "%s/tutti", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/tutti/secret", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	fputs("from the file\n", f);
	fclose(f);
	assert_int_equal(launch_read(&a, &p, lookup, NOTHING), TUTTI_OK);
	assert_false(a.key.open);
	p.secret = "from the file";
	assert_int_equal(launch_read(&b, &p, lookup, NOTHING), TUTTI_OK);
	assert_true(same_key(&a, &b));
	p.secret = NULL;
	p.secret_file = "/nonexistent/secret";
	refuse(&p, NOTHING, TUTTI_EAUTH, "/nonexistent/secret", "");
	p.secret_file = NULL;
	p.root = "127.0.0.1:9";
	assert_int_equal(launch_read(&a, &p, lookup, NOTHING), TUTTI_OK);
	assert_true(a.key.open);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_alone),    cmocka_unit_test(test_explicit), cmocka_unit_test(test_root_forms),
	        cmocka_unit_test(test_torchrun), cmocka_unit_test(test_openmpi),  cmocka_unit_test(test_pmi),
	        cmocka_unit_test(test_slurm),    cmocka_unit_test(test_mlx),      cmocka_unit_test(test_mixed),
	        cmocka_unit_test(test_secret),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
