/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target without a fuzzer's help: replays the files of a corpus, then, with -runs=N, inputs made from them
 * by random changes. No feedback guides it; built with a sanitizer it still finds what a parser can't take. An input that
 * ends the process is left in the file crash-<target>, or where TUTTI_FUZZ_CRASH says.
 *
 *   <target> [-runs=N] [-seed=S] [-max_len=BYTES] FILE|DIRECTORY...
 *
 * The options are a fuzzer's own, so that the same command runs a target linked with -fsanitize=fuzzer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../seed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *data;
	size_t size;
};

static struct input *corpus;
static size_t ncorpus;

static struct input current; /* what the target is given, for the crash's file */
static char crash_path[512];

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

/* ---- corpus ------------------------------------------------------------------------------------------------------ */

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	return p;
}

static void add(const uint8_t *data, size_t size)
{
	corpus = must(realloc(corpus, (ncorpus + 1) * sizeof(*corpus)));
	corpus[ncorpus].data = must(malloc(size + 1));
	if (size)
		memcpy(corpus[ncorpus].data, data, size);
	corpus[ncorpus++].size = size;
}

static void load_file(const char *path, size_t max_len)
{
	uint8_t *buf = must(malloc(max_len + 1));
	FILE *f = fopen(path, "rb");

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	add(buf, fread(buf, 1, max_len, f));
	fclose(f);
	free(buf);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, so that a seed means the same on all machines. */
static void load_directory(const char *path, size_t max_len)
{
	char **names = NULL, full[4096];
	size_t n = 0;
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		names = must(realloc(names, (n + 1) * sizeof(*names)));
		names[n++] = must(strdup(e->d_name));
	}
	if (d)
		closedir(d);
	if (n)
		qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		snprintf(full, sizeof(full), "%s/%s", path, names[i]);
		load_file(full, max_len);
		free(names[i]);
	}
	free(names);
}

static void load(const char *path, size_t max_len)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		load_directory(path, max_len);
	else
		load_file(path, max_len);
}

/* ---- crashes ----------------------------------------------------------------------------------------------------- */

static void keep_crash(void)
{
	int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool kept = fd >= 0 && write(fd, current.data, current.size) == (ssize_t)current.size;

	if (kept && write(STDERR_FILENO, "the input is in ", 16) == 16 &&
	    write(STDERR_FILENO, crash_path, strlen(crash_path)) > 0 && write(STDERR_FILENO, "\n", 1) == 1)
		close(fd);
}

static void on_signal(int number)
{
	keep_crash();
	signal(number, SIG_DFL);
	raise(number);
}

/* A sanitizer that has found something calls this before it exits. */
void __asan_on_error(void);
void __asan_on_error(void)
{
	keep_crash();
}

static void catch_crashes(const char *program)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
	const char *given = getenv("TUTTI_FUZZ_CRASH"), *slash = strrchr(program, '/');

	if (given)
		snprintf(crash_path, sizeof(crash_path), "%s", given);
	else
		snprintf(crash_path, sizeof(crash_path), "crash-%s", slash ? slash + 1 : program);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		signal(fatal[i], on_signal);
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

#define PATIENCE 60 /* seconds for one input */

/* In a block of its exact size, so that a sanitizer sees each byte read beyond. */
static void run_one(const uint8_t *data, size_t size)
{
	uint8_t *exact = must(malloc(size ? size : 1));

	if (size)
		memcpy(exact, data, size);
	current = (struct input){.data = exact, .size = size};
	alarm(PATIENCE);
	LLVMFuzzerTestOneInput(exact, size);
	alarm(0);
	current.size = 0;
	free(exact);
}

static void put_number(uint8_t *at, size_t room)
{
	static const uint64_t numbers[] = {
	        0,          1,         2,         7,    8,     64,    127,       128,
	        255,        256,       1000,      1024, 65535, 65536, INT32_MAX, UINT64_C(0x80000000),
	        UINT32_MAX, INT64_MAX, UINT64_MAX};
	static const size_t widths[] = {1, 2, 4, 8};
	uint64_t value = numbers[draw(sizeof(numbers) / sizeof(numbers[0]))];
	size_t width = widths[draw(4)];

	memcpy(at, &value, width < room ? width : room); /* machines here are little-endian */
}

/* One change; returns the new size. */
static size_t change(uint8_t *buf, size_t size, size_t cap)
{
	size_t at = size ? draw(size) : 0, n = size ? 1 + draw(size - at) : 0;
	const struct input *other = &corpus[draw(ncorpus)];

	switch (draw(9)) {
	case 0:
		if (size)
			buf[at] ^= (uint8_t)(1u << draw(8));
		return size;
	case 1:
		if (size)
			buf[at] = (uint8_t)draw(256);
		return size;
	case 2:
		if (size)
			put_number(buf + at, size - at);
		return size;
	case 3: /* cut out */
		memmove(buf + at, buf + at + n, size - at - n);
		return size - n;
	case 4: /* cut off */
		return at;
	case 5: /* repeat */
		if (size + n > cap)
			return size;
		memmove(buf + at + n, buf + at, size - at);
		return size + n;
	case 6: /* grow */
		for (n = draw(16); n > 0 && size < cap; n--)
			buf[size++] = (uint8_t)draw(256);
		return size;
	case 7: /* the start of this, the end of another */
		n = other->size ? draw(other->size) : 0;
		if (at + (other->size - n) > cap)
			return size;
		memcpy(buf + at, other->data + n, other->size - n);
		return at + (other->size - n);
	default: /* a part of another over this */
		if (!size || !other->size)
			return size;
		n = draw(other->size);
		at = draw(size);
		memcpy(buf + at, other->data + n, other->size - n < size - at ? other->size - n : size - at);
		return size;
	}
}

static void run_changed(uint64_t runs, size_t max_len)
{
	uint8_t *buf = must(malloc(max_len + 1));

	for (uint64_t i = 0; i < runs; i++) {
		const struct input *from = &corpus[draw(ncorpus)];
		size_t size = from->size;
		memcpy(buf, from->data, size);
		for (uint64_t changes = 1 + draw(6); changes > 0; changes--)
			size = change(buf, size, max_len);
		run_one(buf, size);
	}
	free(buf);
}

int main(int argc, char **argv)
{
	uint64_t runs = 0, seed = test_seed();
	size_t max_len = 65536;

	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			seed = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-max_len=", 9) == 0)
			max_len = strtoull(argv[i] + 9, NULL, 10);
	}
	for (int i = 1; i < argc; i++)
		if (argv[i][0] != '-')
			load(argv[i], max_len);
	if (ncorpus == 0)
		add(NULL, 0);
	catch_crashes(argv[0]);
	for (size_t i = 0; i < ncorpus; i++)
		run_one(corpus[i].data, corpus[i].size);
	random_state = seed;
	run_changed(runs, max_len);
	printf("%s: %zu inputs of the corpus, %llu changed, seed %llu\n", argv[0], ncorpus, (unsigned long long)runs,
	       (unsigned long long)seed);
	for (size_t i = 0; i < ncorpus; i++)
		free(corpus[i].data);
	free(corpus);
	return 0;
}
