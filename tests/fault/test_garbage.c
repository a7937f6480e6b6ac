/* SPDX-License-Identifier: MIT */
/*
 * Strangers at the doors of a job: garbage, port scans, half a greeting, connections that only sit there. They cost log
 * lines; the job starts, runs and gives right results meanwhile.
 */
#include "../../src/os/os.h"
#include "../seed.h"
#include "fault.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#define STRANGERS 10000
#define SITTERS   200 /* connections that stay, each saying a byte now and then */

/* A connection to anything that listens in this network: doors are the only listeners here. */
struct doors {
	int n;
	struct sockaddr_storage at[256];
	socklen_t len[256];
};

static void add_door(struct doors *d, const void *at, socklen_t len)
{
	if (d->n < 256) {
		memcpy(&d->at[d->n], at, len);
		d->len[d->n++] = len;
	}
}

static void find_tcp(struct doors *d, const char *path, bool six)
{
	char line[512];
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned port, state;
		if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &port, &state) != 2 || state != 10)
			continue;
		struct sockaddr_in v4 = {.sin_family = AF_INET,
		                         .sin_port = htons((uint16_t)port),
		                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
		                          .sin6_port = htons((uint16_t)port),
		                          .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		if (six)
			add_door(d, &v6, sizeof(v6));
		else
			add_door(d, &v4, sizeof(v4));
	}
	if (f)
		fclose(f);
}

static void find_local(struct doors *d)
{
	char line[512];
	FILE *f = fopen("/proc/self/net/unix", "re");
	while (f && fgets(line, sizeof(line), f)) {
		struct sockaddr_un u = {.sun_family = AF_UNIX};
		char *at = strchr(line, '@');
		if (!at)
			continue;
		size_t len = strcspn(at + 1, "\n");
		memcpy(u.sun_path + 1, at + 1, len);
		add_door(d, &u, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len));
	}
	if (f)
		fclose(f);
}

static void find_doors(struct doors *d)
{
	d->n = 0;
	find_tcp(d, "/proc/self/net/tcp", false);
	find_tcp(d, "/proc/self/net/tcp6", true);
	find_local(d);
}

static int enter(const struct doors *d, int i)
{
	int fd = socket(d->at[i].ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&d->at[i], d->len[i]) != 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One stranger: sends something that is not a greeting, in one of several ways, and leaves. */
static bool disturb(const struct doors *d, unsigned k, unsigned seed)
{
	static const char web[] = "GET / HTTP/1.1\r\nHost: tutti\r\n\r\n";
	char noise[4096];
	int fd = enter(d, (int)(k % (unsigned)d->n));
	if (fd < 0)
		return false;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
	if (k % 4 == 1)
		(void)!send(fd, web, sizeof(web), MSG_NOSIGNAL);
	else if (k % 4 == 2)
		(void)!send(fd, noise, sizeof(noise), MSG_NOSIGNAL);
	else if (k % 4 == 3)
		(void)!send(fd, "tutti", 5, MSG_NOSIGNAL);
	close(fd);
	return true;
}

/* Until the job is over: an endless number of strangers, and some that stay and send a byte now and then. */
static void besiege(struct stage *s)
{
	static int sitter[SITTERS];
	struct doors d;
	unsigned k = 0;
	memset(sitter, -1, sizeof(sitter));
	while (!s->done[1]) {
		find_doors(&d);
		for (unsigned i = 0; i < 500 && d.n && !s->done[1]; i++, k++) {
			int *at = &sitter[k % SITTERS];
			if (disturb(&d, k, s->delay_us + k) && s->done[0] < STRANGERS)
				s->done[0]++;
			if (*at < 0)
				*at = enter(&d, (int)(k % (unsigned)d.n));
			else if (send(*at, "t", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != ENOTCONN) {
				close(*at);
				*at = -1;
			}
		}
		if (!d.n)
			pause_us(1000);
	}
	_exit(0);
}

static int hold_out(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = atoi(getenv("TUTTI_RANK")), n = s->n;
	pid_t siege = 0;
	static float in[5000], out[5000], over, all;
	if (me == 0 && (siege = fork()) == 0) {
		(void)os_end_with_parent();
		besiege(s);
	}
	ranks_note("start under siege");
	await(&s->done[0], 200);
	RANK_OK(tutti_comm_from_env(&c, NULL));
	for (int call = 0; all == 0; call++) {
		ranks_note("allreduce %d under siege", call);
		for (size_t i = 0; i < 5000; i++)
			in[i] = (float)(me + call % 100);
		RANK_OK(tutti_allreduce(in, out, 5000, TUTTI_F32, TUTTI_SUM, c, NULL));
		for (size_t i = 0; i < 5000; i++)
			RANK_CHECK(out[i] == (float)(n * (call % 100) + n * (n - 1) / 2));
		if (call % 10 == 0) { /* new connections, too */
			struct tutti_comm *sub;
			RANK_OK(tutti_comm_split(c, me % 2, 0, &sub));
			RANK_OK(tutti_barrier(sub, NULL));
			RANK_OK(tutti_comm_destroy(sub));
		}
		over = s->done[0] >= STRANGERS;
		RANK_OK(tutti_allreduce(&over, &all, 1, TUTTI_F32, TUTTI_MIN, c, NULL));
	}
	RANK_OK(tutti_comm_destroy(c));
	s->done[1] = 1;
	if (siege)
		waitpid(siege, NULL, 0);
	return 0;
}

static void strangers_do_not_disturb(void **state)
{
	(void)state;
	if (!alone) {
		print_message("finding all doors needs a network of the test's own\n");
		skip();
	}
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->delay_us = (unsigned)rand();
		uint64_t begin = clock_ns();
		struct ranks how = {.start = RANKS_BY_HAND, .seconds = 240};
		if (stage_run(s, how, hold_out, "TUTTI_START_TIMEOUT=60", "TUTTI_TIMEOUT=60", NULL))
			fail_msg("%s", way_names[way]);
		print_message("%s: %d strangers in %.1f s\n", way_names[way], s->done[0], seconds_since(begin));
		stage_free(s);
	}
}

int main(int argc, char **argv)
{
	unsigned seed = (unsigned)test_seed();
	printf("TUTTI_TEST_SEED=%u\n", seed);
	srand(seed);
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(strangers_do_not_disturb, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
