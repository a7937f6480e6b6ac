/* SPDX-License-Identifier: MIT */
/* Keys in a core dump: what the kernel would write of a rank that has joined its job does not have the job's key. */
#include "../unit/expect.h"

#include "../../src/util/auth.h"
#include "../../src/util/secret.h"
#include "tutti.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096u
#define A_PLAIN 3 /* the search is blind: it does not find a key in ordinary memory */
#define A_FOUND 4
#define A_FAULT 5

static bool page_holds(uint8_t *copy, unsigned long at, const uint8_t *key, size_t n)
{
	struct iovec here = {copy, PAGE + n},
	             there = {(void *)at, PAGE + n}; /* by way of the kernel: it may go meanwhile */
	ssize_t got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return got > 0 && memmem(copy, (size_t)got, key, n);
}

/* Pages that are there, in memory or swapped out: most of what is mapped is address space only. */
static bool range_holds(int pagemap, unsigned long from, unsigned long to, const uint8_t *key, size_t n)
{
	static uint8_t *copy;
	static uint64_t entry[4096];
	bool found = false;
	size_t pages = 0;

	if (!copy)
		copy = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED || madvise(copy, 2 * PAGE, MADV_DONTDUMP) < 0)
		_exit(A_FAULT);
	for (unsigned long at = from; at < to; at += pages * PAGE) {
		size_t most = sizeof(entry) / sizeof(*entry), rest = (to - at) / PAGE;
		pages = rest < most ? rest : most;
		if (pread(pagemap, entry, pages * 8, (off_t)(at / PAGE * 8)) != (ssize_t)(pages * 8))
			_exit(A_FAULT);
		for (size_t i = 0; i < pages; i++)
			found |= entry[i] >> 62 && page_holds(copy, at + i * PAGE, key, n);
	}
	return found;
}

/* Private memory that a core would have. */
static bool dump_holds(const uint8_t *key, size_t n)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	FILE *maps = fopen("/proc/self/smaps", "r");
	unsigned long a, b, from = 0, to = 0;
	bool ours = false, found = false;
	char line[512], mode[8];

	if (!maps || pagemap < 0)
		_exit(A_FAULT);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &a, &b, mode) == 3) {
			ours = memcmp(mode, "rw-p", 4) == 0;
			from = a;
			to = b;
		}
		if (strncmp(line, "VmFlags:", 8) == 0 && ours && !strstr(line, " dd"))
			found |= range_holds(pagemap, from, to, key, n);
	}
	fclose(maps);
	close(pagemap);
	return found;
}

/* The key that the job has, made here once more, where no core has it. */
static int look(const char *path)
{
	struct auth_key *key = secret_alloc(sizeof(*key));
	uint8_t *plain;

	if (!key || auth_key_from_file(key, path) != TUTTI_OK)
		return A_FAULT;
	if (dump_holds(key->bytes, AUTH_KEY))
		return A_FOUND;
	plain = malloc(AUTH_KEY);
	if (!plain)
		return A_FAULT;
	memcpy(plain, key->bytes, AUTH_KEY);
	__asm__ volatile("" : : "r"(plain) : "memory"); /* it is there, though nobody reads it */
	return dump_holds(key->bytes, AUTH_KEY) ? 0 : A_PLAIN;
}

static int be_rank(int rank, const char *root, const char *path)
{
	struct tutti_comm *comm;
	float one = 1;
	int rc;

	setenv("TUTTI_SECRET_FILE", path, 1);
	setenv("TUTTI_ROOT", root, 1);
	setenv("TUTTI_SIZE", "2", 1);
	setenv("TUTTI_RANK", rank ? "1" : "0", 1);
	setenv("TUTTI_TRANSPORT", "tcp", 1);
	setenv("TUTTI_ENCRYPT", "1", 1);
	if (tutti_comm_from_env(&comm, NULL) != TUTTI_OK ||
	    tutti_allreduce(&one, &one, 1, TUTTI_F32, TUTTI_SUM, comm, NULL) != TUTTI_OK) {
		fprintf(stderr, "rank %d: %s\n", rank, tutti_last_error(NULL));
		return 1;
	}
	rc = look(path);
	return tutti_barrier(comm, NULL) == TUTTI_OK && tutti_comm_destroy(comm) == TUTTI_OK ? rc : 2;
}

static void test_the_secret_is_in_no_core(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* most of their memory is shadow */
	skip();
#endif
	static const char text[] = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
	char path[] = "/tmp/tutti-trust-XXXXXX", root[32];
	int status, fd = mkstemp(path);
	pid_t pid[2];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	snprintf(root, sizeof(root), "127.0.0.1:%d", 20000 + (int)(getpid() % 10000));
	for (int r = 0; r < 2; r++) {
		pid[r] = fork();
		assert_true(pid[r] >= 0);
		if (pid[r] == 0)
			_exit(be_rank(r, root, path));
	}
	for (int r = 0; r < 2; r++) {
		assert_int_equal(waitpid(pid[r], &status, 0), pid[r]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_secret_is_in_no_core)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
