/* SPDX-License-Identifier: MIT */
/*
 * floor: what this machine allows between two cores, without any library.
 *
 * Two processes, pinned to two cores, share memory and a loopback connection, and do what the fastest collective of
 * two ranks can't do without: exchange a cache line, exchange S bytes through a buffer that the peer reads, copy
 * memory, and exchange S bytes over TCP. A speed of Tutti is a ratio to one of these, taken in the same run on the
 * same machine. Figures are medians over batches, as the first process sees them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCHES      9
#define APART        128  /* bytes between things that different cores write */
#define GIVE_UP      60e9 /* ns that one process waits for the other */
#define EXCHANGE_MAX ((size_t)64 << 20)
#define MEMCPY_MAX   ((size_t)256 << 20)
#define TCP_MAX      ((size_t)16 << 20)

/* 64 bytes; the compiler uses the vectors that the machine has. */
typedef uint64_t line_data __attribute__((vector_size(64)));

struct line {
	_Alignas(APART) _Atomic uint64_t seq;
	uint64_t payload[7];
};

/* What both processes map. Index: the process that writes. */
struct shared {
	struct line meet[2], small[2], ready[2];
};

struct side {
	int me; /* 0 measures and prints, 1 keeps up */
	struct shared *shared;
	line_data *ring[2][2];   /* [writer][parity], in shared memory */
	line_data *own, *result; /* private */
	int socket;
	uint64_t met, small, big; /* counters that only grow, equal in both */
	size_t max;
	const char *only;
	FILE *json;
	bool more; /* a JSON list has an element */
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, errno ? strerror(errno) : "no reason given");
	exit(1);
}

/* F1: the acquire that pairs with the release in post(). */
static void await(_Atomic uint64_t *seq, uint64_t value)
{
	double deadline = 0;

	for (unsigned spins = 1; atomic_load_explicit(seq, memory_order_acquire) < value; spins++) {
		relax();
		if (spins % (1u << 20))
			continue;
		if (deadline == 0)
			deadline = now_ns() + GIVE_UP;
		errno = ETIMEDOUT;
		if (now_ns() > deadline)
			die("waiting for the other process");
	}
}

/* F1: everything written before is visible to a process that sees `value`. */
static void post(_Atomic uint64_t *seq, uint64_t value)
{
	atomic_store_explicit(seq, value, memory_order_release);
}

static void meet(struct side *s)
{
	post(&s->shared->meet[s->me].seq, ++s->met);
	await(&s->shared->meet[!s->me].seq, s->met);
}

/* ---- what is measured: each does `n` operations on `bytes` bytes ------------------------------------------------- */

typedef void operation(struct side *s, size_t bytes, int n);

static void line_exchange(struct side *s, size_t bytes, int n)
{
	struct line *mine = &s->shared->small[s->me], *theirs = &s->shared->small[!s->me];

	(void)bytes;
	while (n-- > 0) {
		mine->payload[0] = ++s->small;
		post(&mine->seq, s->small);
		await(&theirs->seq, s->small);
	}
}

static void line_round_trip(struct side *s, size_t bytes, int n)
{
	struct line *mine = &s->shared->small[s->me], *theirs = &s->shared->small[!s->me];

	(void)bytes;
	while (n-- > 0) {
		s->small++;
		if (s->me)
			await(&theirs->seq, s->small);
		mine->payload[0] = s->small;
		post(&mine->seq, s->small);
		if (!s->me)
			await(&theirs->seq, s->small);
	}
}

static void publish(line_data *to, const line_data *from, size_t lines, uint64_t change)
{
	for (size_t i = 0; i < lines; i++)
		to[i] = from[i] + change;
}

static void add(line_data *to, const line_data *a, const line_data *b, size_t lines)
{
	for (size_t i = 0; i < lines; i++)
		to[i] = a[i] + b[i];
}

/*
 * The data path of a two-rank all-reduce. Two buffers in turn need no other handshake: a process that has seen the
 * peer's flag of round k knows that the peer has read all of round k - 1.
 */
static void exchange(struct side *s, size_t bytes, int n)
{
	size_t lines = bytes / 64;

	while (n-- > 0) {
		uint64_t k = ++s->big;

		publish(s->ring[s->me][k & 1], s->own, lines, k);
		post(&s->shared->ready[s->me].seq, k);
		await(&s->shared->ready[!s->me].seq, k);
		add(s->result, s->own, s->ring[!s->me][k & 1], lines);
	}
	if (s->result[lines - 1][7] != s->own[lines - 1][7] + (uint64_t)!s->me + s->big) {
		errno = EIO;
		die("exchanged data are wrong");
	}
}

static void copy(struct side *s, size_t bytes, int n)
{
	for (int i = 0; i < n; i++) {
		*(volatile char *)s->own = (char)i;
		memcpy(s->result, s->own, bytes);
	}
}

static void copy_alone(struct side *s, size_t bytes, int n)
{
	if (s->me == 0)
		copy(s, bytes, n);
}

/* Move what the socket takes or has; returns how much. */
static size_t moved(ssize_t n)
{
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		die("loopback connection");
	if (n < 0)
		return 0;
	return (size_t)n;
}

static void tcp_exchange(struct side *s, size_t bytes, int n)
{
	while (n-- > 0) {
		size_t sent = 0, received = 0;

		while (sent < bytes || received < bytes) {
			if (sent < bytes)
				sent += moved(send(s->socket, (char *)s->own + sent, bytes - sent, MSG_NOSIGNAL));
			if (received < bytes)
				received += moved(recv(s->socket, (char *)s->result + received, bytes - received, 0));
		}
	}
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median ns of one operation. Both sides derive the same number of rounds from the guess of its duration. */
static double median(struct side *s, operation *op, size_t bytes, double guess_ns)
{
	double ns[BATCHES], rounds = 10e6 / guess_ns;
	int n = rounds < 2 ? 2 : rounds > 50000 ? 50000 : (int)rounds;

	meet(s);
	op(s, bytes, n / 4 + 1);
	for (int i = 0; i < BATCHES; i++) {
		double start;

		meet(s);
		start = now_ns();
		op(s, bytes, n);
		ns[i] = (now_ns() - start) / n;
	}
	qsort(ns, BATCHES, sizeof(*ns), by_value);
	return ns[BATCHES / 2];
}

static void report(struct side *s, const char *what, int cores, size_t bytes, double ns)
{
	if (s->me)
		return;
	if (bytes)
		printf("%-16s %5d %12zu %12.3f %9.2f\n", what, cores, bytes, ns / 1e3, (double)bytes / ns);
	else
		printf("%-16s %5d %12s %12.4f %9s\n", what, cores, "line", ns / 1e3, "");
	fflush(stdout);
	if (s->json)
		fprintf(s->json, "%s\n    {\"what\": \"%s\", \"cores\": %d, \"bytes\": %zu, \"us\": %.5f}",
		        s->more ? "," : "", what, cores, bytes, ns / 1e3);
	s->more = true;
}

static bool wanted(const struct side *s, const char *what)
{
	return !s->only || strcmp(s->only, what) == 0;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void measure(struct side *s, bool two_cores)
{
	size_t b;

	if (wanted(s, "line") && two_cores) {
		report(s, "line-exchange", 2, 0, median(s, line_exchange, 0, 300));
		report(s, "line-one-way", 2, 0, median(s, line_round_trip, 0, 400) / 2);
	}
	for (b = 64; wanted(s, "exchange") && two_cores && b <= least(s->max, EXCHANGE_MAX); b *= 4)
		report(s, "exchange", 2, b, median(s, exchange, b, 300 + 0.25 * (double)b));
	for (b = 4096; wanted(s, "memcpy") && b <= least(s->max, MEMCPY_MAX); b *= 4) {
		report(s, "memcpy", 1, b, median(s, copy_alone, b, 50 + 0.1 * (double)b));
		if (two_cores)
			report(s, "memcpy-both", 2, b, median(s, copy, b, 50 + 0.1 * (double)b));
	}
	for (b = 8; wanted(s, "tcp") && two_cores && b <= least(s->max, TCP_MAX); b *= 8)
		report(s, "tcp-exchange", 2, b, median(s, tcp_exchange, b, 10000 + 0.4 * (double)b));
}

/* ---- setting up -------------------------------------------------------------------------------------------------- */

static int read_number(int cpu, const char *name)
{
	char path[128];
	int value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
	f = fopen(path, "re");
	if (f && fscanf(f, "%d", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

static bool same_core(int a, int b)
{
	int core = read_number(a, "core_id"), package = read_number(a, "physical_package_id");

	return core >= 0 && core == read_number(b, "core_id") && package == read_number(b, "physical_package_id");
}

/* Two CPUs that we may use, on different cores; cpus[1] is -1 when there is only one core. */
static void choose_cpus(int cpus[2])
{
	cpu_set_t set;

	cpus[0] = cpus[1] = -1;
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		die("sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE && cpus[1] < 0; i++) {
		if (!CPU_ISSET(i, &set))
			continue;
		if (cpus[0] < 0)
			cpus[0] = i;
		else if (!same_core(cpus[0], i))
			cpus[1] = i;
	}
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		die("sched_setaffinity");
}

static void *map(size_t bytes, int how)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Made before the fork, so that both processes have it at the same place. */
static void share_memory(struct side *s)
{
	size_t ring = wanted(s, "exchange") ? least(s->max, EXCHANGE_MAX) : 4096;

	s->shared = map(sizeof(*s->shared), MAP_SHARED);
	for (int i = 0; i < 4; i++)
		s->ring[i / 2][i % 2] = map(ring, MAP_SHARED);
}

static void fill_own(struct side *s)
{
	size_t bytes = wanted(s, "memcpy") ? least(s->max, MEMCPY_MAX) : least(s->max, EXCHANGE_MAX);

	s->own = map(bytes < 4096 ? 4096 : bytes, MAP_PRIVATE);
	s->result = map(bytes < 4096 ? 4096 : bytes, MAP_PRIVATE);
	for (size_t i = 0; i < bytes / 64; i++)
		s->own[i] = (line_data){0} + (uint64_t)s->me;
	memset(s->result, 1, bytes);
}

static int listener(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)address, length) != 0 || listen(fd, 1) != 0 ||
	    getsockname(fd, (struct sockaddr *)address, &length) != 0)
		die("listening on the loopback interface");
	return fd;
}

static int connected(int me, int listening, const struct sockaddr_in *address)
{
	int one = 1, fd;

	if (me == 0) {
		fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	} else {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
			die("connecting over the loopback interface");
	}
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		die("loopback connection");
	return fd;
}

static void as_peer(struct side *s, int cpu, int listening, const struct sockaddr_in *address)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	s->me = 1;
	pin(cpu);
	fill_own(s);
	s->socket = connected(1, listening, address);
	measure(s, true);
	_exit(0);
}

static void measure_two(struct side *s, const int cpus[2])
{
	struct sockaddr_in address;
	int listening = listener(&address), status = 0;
	pid_t child;

	share_memory(s);
	fflush(NULL);
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0)
		as_peer(s, cpus[1], listening, &address);
	pin(cpus[0]);
	fill_own(s);
	s->socket = connected(0, listening, &address);
	measure(s, true);
	errno = 0;
	if (waitpid(child, &status, 0) != child || status != 0)
		die("the other process failed");
	close(s->socket);
	close(listening);
}

/* One core: what needs no peer. A peer that never comes would block meet(), so it is made to have come. */
static void measure_one(struct side *s, int cpu)
{
	printf("# Only one core may be used here: line, exchange and tcp are left out.\n");
	share_memory(s);
	post(&s->shared->meet[1].seq, UINT64_MAX);
	pin(cpu);
	fill_own(s);
	measure(s, false);
}

static void print_model(FILE *f, const char *before, const char *after)
{
	char line[256];
	FILE *info = fopen("/proc/cpuinfo", "re");

	fputs(before, f);
	while (info && fgets(line, sizeof(line), info)) {
		char *name = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;

		if (!name)
			continue;
		for (name += 2; *name && *name != '\n'; name++)
			fputc(*name == '"' || *name == '\\' ? ' ' : *name, f);
		break;
	}
	if (info)
		fclose(info);
	fputs(after, f);
}

static size_t parse_size(const char *text)
{
	char *end;
	double v = strtod(text, &end);
	const char *units = "KMG", *unit = *end ? strchr(units, *end & ~32) : NULL;

	if (unit) {
		v *= (double)(1ull << (10 * (unit - units + 1)));
		end++;
	}
	return end == text || *end || !(v >= 64 && v < 1e12) ? 0 : (size_t)v;
}

static int usage(void)
{
	fputs("usage: floor [--only line|exchange|memcpy|tcp] [--max SIZE] [--json FILE]\n"
	      "Measures what two cores of this machine can do: exchange a cache line and larger blocks, copy, loopback.\n"
	      "SIZE, at least 64, takes K, M, G (powers of 1024).\n",
	      stderr);
	return 2;
}

static bool is_kind(const char *text)
{
	static const char *const kinds[] = {"line", "exchange", "memcpy", "tcp"};

	for (int i = 0; i < 4; i++)
		if (strcmp(text, kinds[i]) == 0)
			return true;
	return false;
}

static bool parse(struct side *s, int argc, char **argv, const char **json)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--json") == 0)
			*json = argv[i + 1];
		else if (strcmp(argv[i], "--only") == 0 && is_kind(argv[i + 1]))
			s->only = argv[i + 1];
		else if (strcmp(argv[i], "--max") == 0)
			s->max = parse_size(argv[i + 1]);
		else
			return false;
	}
	return argc % 2 == 1 && s->max > 0;
}

int main(int argc, char **argv)
{
	struct side s = {.max = MEMCPY_MAX};
	const char *json = NULL;
	int cpus[2];

	if (!parse(&s, argc, argv, &json))
		return usage();
	if (json && !(s.json = fopen(json, "we")))
		die(json);
	choose_cpus(cpus);
	printf("# CPUs %d and %d", cpus[0], cpus[1]);
	print_model(stdout, " of ", "; medians of batches\n");
	printf("%-16s %5s %12s %12s %9s\n", "# what", "cores", "bytes", "us", "GB/s");
	if (s.json) {
		fprintf(s.json, "{\n  \"cpus\": [%d, %d],\n", cpus[0], cpus[1]);
		print_model(s.json, "  \"model\": \"", "\",\n  \"results\": [");
	}
	if (cpus[1] >= 0)
		measure_two(&s, cpus);
	else
		measure_one(&s, cpus[0]);
	if (s.json) {
		fputs("\n  ]\n}\n", s.json);
		if (fclose(s.json) != 0)
			die(json);
	}
	return 0;
}
