/* SPDX-License-Identifier: MIT */
/*
 * The head of a job. One thread, one poll loop over its signals, the agents, and its own input and outputs; nothing in
 * it blocks, so that a stopped pager or a host that hangs never makes it deaf to Ctrl-C.
 *
 * A job runs through phases. The first failure, a signal or the time limit leaves RUNNING; every phase after it has a
 * deadline at which the next, harsher one begins:
 *
 *   STARTING --all READY, GO--> RUNNING --failure--> GRACE --SIGTERM--> ENDING --SIGKILL--> KILLING --> OVER
 */
#include "head.h"
#include "../../src/os/os.h"
#include "../../src/util/auth.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/printable.h"
#include "bind.h"
#include "lines.h"
#include "remote.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define NOISE_MAX (16u << 20) /* what a login shell may print before the agent speaks */
#define QUEUE_MAX (1u << 20)  /* of output that the terminal did not take yet; beyond it the agents wait */
#define NEVER     UINT64_MAX

enum phase { STARTING, RUNNING, GRACE, ENDING, KILLING, OVER };

struct peer {
	const struct host *host;
	pid_t pid;        /* the agent, or the remote shell that carries it */
	int fd;           /* -1: gone */
	int *rank, count; /* in ascending order */
	size_t noise;     /* bytes before the agent's first words */
	bool greeted, ready;
	struct buf from, to;
};

struct rank {
	struct peer *peer;
	bool ended;
	bool reads;     /* gets our stdin */
	bool owes;      /* has not said yet that it took what it got */
	unsigned joins; /* worlds of the job that it has begun to join: they need all ranks */
	struct lines out, err;
};

struct head {
	const struct run_options *o;
	struct peer *peer;
	struct rank *rank;
	int *ranks_by_host;
	struct pollfd *polls;
	struct sink out, err;
	int npeers, alive, signals, status;
	bool input_open, failed, signalled, output_lost;
	char root[NAME_MAX + 16];
	enum phase phase;
	uint64_t harsher, limit; /* now_ns() at which the next phase begins; at which time is up */
};

static uint64_t after(double seconds)
{
	return now_ns() + (uint64_t)(seconds * (double)SECOND_NS);
}

static void __attribute__((format(printf, 2, 3))) say(struct head *h, const char *fmt, ...)
{
	char raw[1400], text[1400], line[1500];
	va_list ap;
	int n;

	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	n = snprintf(line, sizeof(line), "tutti-run: %s\n", printable(text, sizeof(text), raw));
	sink_add(&h->err, line, (size_t)n);
}

/* "rank 3", or "rank 3 on node1" where there are several hosts. */
static const char *rank_name(const struct head *h, int r, char buf[320])
{
	const char *host = h->rank[r].peer->host->name;

	snprintf(buf, 320, "rank %d%s%.256s", r, h->npeers > 1 ? " on " : "", h->npeers > 1 ? host : "");
	return buf;
}

/* ---- from phase to phase ----------------------------------------------------------------------------------------- */

static void signal_ranks(struct head *h, int sig)
{
	for (int i = 0; i < h->npeers; i++)
		if (h->peer[i].fd >= 0)
			frame_add_u32(&h->peer[i].to, FRAME_SIGNAL, 0, (uint32_t)sig);
}

static void enter(struct head *h, enum phase phase, double seconds)
{
	h->phase = phase;
	h->harsher = after(seconds);
	if (phase == ENDING)
		signal_ranks(h, SIGTERM);
	if (phase == KILLING)
		signal_ranks(h, SIGKILL);
}

/* True for the first failure of the job, which alone gives the status. */
static bool fail_first(struct head *h, int status)
{
	bool first = !h->failed;

	if (first)
		h->status = status;
	h->failed = true;
	if (h->phase == STARTING)
		h->phase = OVER;
	else if (h->phase == RUNNING)
		enter(h, GRACE, h->o->grace);
	return first;
}

/* " 0 3": the ranks of a host, or with NULL all that live. */
static void list_ranks(const struct head *h, const struct peer *p, char *buf, size_t cap)
{
	size_t used = 0;

	buf[0] = '\0';
	for (int r = 0; r < h->o->n && used + 16 < cap; r++)
		if (p ? h->rank[r].peer == p : !h->rank[r].ended)
			used += (size_t)snprintf(buf + used, cap - used, " %d", r);
}

static void go_on(struct head *h)
{
	char list[256];

	list_ranks(h, NULL, list, sizeof(list));
	switch (h->phase) {
	case GRACE:
		say(h, "ending what still runs: rank%s%s", h->alive > 1 ? "s" : "", list);
		enter(h, ENDING, HARSHER_S);
		break;
	case ENDING:
		say(h, "killing what still runs: rank%s%s", h->alive > 1 ? "s" : "", list);
		enter(h, KILLING, HARSHER_S);
		break;
	default:
		say(h, "no answer from the host%s of rank%s%s", h->npeers > 1 ? "s" : "", h->alive > 1 ? "s" : "",
		    list);
		h->phase = OVER;
	}
}

static void time_is_up(struct head *h)
{
	h->limit = NEVER;
	if (h->phase > RUNNING)
		return;
	say(h, "the job did not end within %g s", h->o->timeout);
	fail_first(h, STATUS_TIMEOUT);
	if (h->phase == GRACE)
		enter(h, ENDING, HARSHER_S);
}

/* The first is passed on and ends the job gently; the second kills. Users' own are passed on, and that is all. */
static void take_signal(struct head *h, int sig)
{
	if (sig == SIGUSR1 || sig == SIGUSR2) {
		signal_ranks(h, sig);
		return;
	}
	if (h->signalled || h->phase > GRACE) {
		say(h, "%s: killing the ranks", strsignal(sig));
		enter(h, KILLING, HARSHER_S);
		return;
	}
	say(h, "%s: ending the ranks", strsignal(sig));
	h->signalled = true;
	fail_first(h, 128 + sig);
	if (h->phase == OVER)
		return;
	signal_ranks(h, sig);
	enter(h, GRACE, h->o->grace);
}

/* ---- agents ------------------------------------------------------------------------------------------------------ */

static void end_rank(struct head *h, int r)
{
	struct rank *k = &h->rank[r];

	if (k->ended)
		return;
	k->ended = true;
	k->reads = k->owes = false;
	h->alive--;
}

static void why_lost(struct head *h, const struct peer *p, int status)
{
	const char *host = p->host->name;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	char list[256];

	list_ranks(h, p, list, sizeof(list));
	if (p->greeted)
		say(h, "lost host %s, with rank%s%s", host, p->count > 1 ? "s" : "", list);
	else if (p->noise > NOISE_MAX)
		say(h, "host %s printed %u MiB without starting tutti-run: does its login shell print endlessly?", host,
		    NOISE_MAX >> 20);
	else if (host_is_here(host))
		say(h, "the agent on this host did not start (status %d)", code);
	else if (code == 127)
		say(h, "tutti-run was not found on host %s: install it there, in the PATH of non-interactive logins",
		    host);
	else
		say(h, "can't reach host %s: '%s %s' ended with status %d; does '%s %s true' work?", host, h->o->rsh,
		    host, code, h->o->rsh, host);
}

static void lose(struct head *h, struct peer *p)
{
	int status, living = 0;

	close(p->fd);
	p->fd = -1;
	status = agent_end(p->pid, 1);
	p->pid = 0;
	for (int i = 0; i < p->count; i++) {
		living += !h->rank[p->rank[i]].ended;
		end_rank(h, p->rank[i]);
	}
	if (living && h->phase != OVER) {
		why_lost(h, p, status);
		fail_first(h, STATUS_LOST);
	}
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

static bool is_numeric(const char *host)
{
	unsigned char ip[16];

	return inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1;
}

/* Rank 0's address: what the host file says, the address that the user typed, or what the host found itself. */
static void choose_root(struct head *h, const char *found)
{
	const struct host *host = h->rank[0].peer->host;
	const char *at = strchr(host->name, '@'), *bare = at ? at + 1 : host->name, *given = NULL;
	const char *port = strrchr(found, ':');

	if (host->address)
		given = host->address;
	else if (is_numeric(bare) && !host_is_here(bare))
		given = bare;
	if (h->npeers == 1 || !given || !port)
		snprintf(h->root, sizeof(h->root), "%s", found);
	else
		snprintf(h->root, sizeof(h->root), strchr(given, ':') ? "[%s]%s" : "%s%s", given, port);
}

static void start_ranks(struct head *h)
{
	for (int i = 0; i < h->npeers; i++)
		frame_add(&h->peer[i].to, FRAME_GO, 0, h->root, strlen(h->root));
	for (int r = 0; r < h->o->n; r++)
		h->rank[r].reads = h->o->input == INPUT_ALL || (h->o->input == INPUT_FIRST && r == 0);
	h->input_open = h->o->input != INPUT_NONE;
	h->phase = RUNNING;
}

static void take_ready(struct head *h, struct peer *p, const struct frame *f)
{
	char found[NAME_MAX + 1];

	p->ready = true;
	if (p == h->rank[0].peer) {
		snprintf(found, sizeof(found), "%.*s", (int)f->len, f->data);
		choose_root(h, found);
	}
	for (int i = 0; i < h->npeers; i++)
		if (!h->peer[i].ready)
			return;
	if (h->phase == STARTING)
		start_ranks(h);
}

static void send_job(struct head *h, struct peer *p, const char *secret)
{
	struct buf b = {0};
	struct job job = {
	        .size = h->o->n,
	        .rank = p->rank,
	        .count = p->count,
	        .everywhere = h->npeers > 1,
	        .cwd = h->o->cwd,
	        .cwd_must = h->o->cwd_must,
	        .input = h->o->input,
	        .bind = h->o->bind,
	        .secret = secret,
	        .env = h->o->env,
	        .nenv = h->o->nenv,
	        .argv = h->o->argv,
	        .argc = h->o->argc,
	};

	job_pack(&b, &job);
	frame_add(&p->to, FRAME_JOB, 0, b.data, b.len);
	buf_free(&b);
}

/* ---- what agents say --------------------------------------------------------------------------------------------- */

static void take_output(struct head *h, int r, const struct frame *f)
{
	char tag[16] = "";
	bool is_out = f->kind == FRAME_OUTPUT, raw = h->o->n == 1 && !h->o->tag;
	struct rank *k = &h->rank[r];

	if (h->o->tag)
		snprintf(tag, sizeof(tag), "[%d] ", r);
	lines_add(is_out ? &k->out : &k->err, is_out ? &h->out : &h->err, tag, raw, f->data, f->len);
}

static void say_cut(struct head *h)
{
	if (h->out.cut || h->err.cut)
		say(h, "lines of more than %u MiB were cut", HELD_MAX >> 20);
	h->out.cut = h->err.cut = false;
}

/* A world that a living rank is joining needs a rank that has ended: nobody can do anything about it any more. */
static void look_for_missing(struct head *h)
{
	int missing = -1, waiting = -1;
	char name[320], other[320];

	for (int r = 0; r < h->o->n; r++)
		if (h->rank[r].ended && (missing < 0 || h->rank[r].joins < h->rank[missing].joins))
			missing = r;
		else if (!h->rank[r].ended && (waiting < 0 || h->rank[r].joins > h->rank[waiting].joins))
			waiting = r;
	if (h->failed || missing < 0 || waiting < 0 || h->rank[missing].joins >= h->rank[waiting].joins)
		return;
	say(h, "%s exited with status 0 and %s, which %s is waiting for", rank_name(h, missing, name),
	    h->rank[missing].joins ? "did not join the job's next communicator" : "never joined the job",
	    rank_name(h, waiting, other));
	fail_first(h, STATUS_MISSING);
	enter(h, ENDING, HARSHER_S);
}

static void take_exit(struct head *h, int r, uint32_t value)
{
	int sig = (int)(value & 0x7f), code = (int)(value >> 8) & 0xff;
	struct rank *k = &h->rank[r];
	char tag[16] = "", name[320];

	if (h->o->tag)
		snprintf(tag, sizeof(tag), "[%d] ", r);
	lines_end(&k->out, &h->out, tag);
	lines_end(&k->err, &h->err, tag);
	say_cut(h);
	end_rank(h, r);
	if (sig && h->phase <= GRACE && !h->signalled)
		say(h, "%s was killed by signal %d (%s)", rank_name(h, r, name), sig, strsignal(sig));
	else if (code && !h->failed)
		say(h, "%s exited with status %d", rank_name(h, r, name), code);
	if (sig || code)
		fail_first(h, sig ? 128 + sig : code);
	else
		look_for_missing(h);
}

static void take_failed(struct head *h, const struct peer *p, const struct frame *f)
{
	int len = f->len > 4 ? (int)f->len - 4 : 0;

	if (fail_first(h, (int)frame_u32(f))) {
		if (h->npeers > 1)
			say(h, "host %s: %.*s", p->host->name, len, f->data + 4);
		else
			say(h, "%.*s", len, f->data + 4);
	}
	h->phase = OVER;
}

static void take_frame(struct head *h, struct peer *p, const struct frame *f)
{
	int r = (int)f->rank;

	if (f->kind == FRAME_READY && !p->ready)
		take_ready(h, p, f);
	else if (f->kind == FRAME_FAILED)
		take_failed(h, p, f);
	if (r < 0 || r >= h->o->n || h->rank[r].peer != p || h->rank[r].ended)
		return;
	if (f->kind == FRAME_OUTPUT || f->kind == FRAME_ERRORS)
		take_output(h, r, f);
	else if (f->kind == FRAME_TAKEN)
		h->rank[r].owes = false;
	else if (f->kind == FRAME_CLOSED)
		h->rank[r].reads = h->rank[r].owes = false;
	else if (f->kind == FRAME_EXIT)
		take_exit(h, r, frame_u32(f));
	else if (f->kind == FRAME_JOINING) {
		h->rank[r].joins++;
		look_for_missing(h);
	}
}

/* Skips what came before the agent's first words; false when there is only noise. */
static bool find_hello(struct peer *p)
{
	const char *at = p->from.len ? memmem(p->from.data, p->from.len, WIRE_HELLO, WIRE_HELLO_LEN) : NULL;

	if (!at && p->from.len >= WIRE_HELLO_LEN) { /* its beginning may have come already */
		p->noise += p->from.len - (WIRE_HELLO_LEN - 1);
		buf_drop(&p->from, p->from.len - (WIRE_HELLO_LEN - 1));
	}
	if (!at)
		return p->noise <= NOISE_MAX;
	buf_drop(&p->from, (size_t)(at - p->from.data) + WIRE_HELLO_LEN);
	p->greeted = true;
	return true;
}

static void hear(struct head *h, struct peer *p)
{
	ssize_t n = buf_fill(&p->from, p->fd);
	bool open = n > 0 || (n < 0 && errno == EAGAIN);
	struct frame f;
	size_t at = 0;
	int rc = 0;

	if (!p->greeted && !find_hello(p))
		open = false;
	while (p->greeted && (rc = frame_next(&p->from, &at, &f)) > 0)
		take_frame(h, p, &f);
	buf_drop(&p->from, at);
	if (!open || rc < 0)
		lose(h, p);
}

/* ---- our input --------------------------------------------------------------------------------------------------- */

static bool wants_input(struct head *h)
{
	int readers = 0;

	if (h->phase != RUNNING || !h->input_open)
		return false;
	for (int r = 0; r < h->o->n; r++) {
		if (h->rank[r].owes)
			return false;
		readers += h->rank[r].reads;
	}
	h->input_open = readers > 0;
	return h->input_open;
}

static void take_input(struct head *h)
{
	char data[INPUT_MAX];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) /* also the terminal's refusal to a job in the background */
		h->input_open = false;
	for (int r = 0; r < h->o->n; r++) {
		struct rank *k = &h->rank[r];
		if (!k->reads)
			continue;
		frame_add(&k->peer->to, FRAME_INPUT, r, data, n > 0 ? (size_t)n : 0);
		k->owes = n > 0;
	}
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static int wait_ms(const struct head *h)
{
	uint64_t now = now_ns(), due = h->limit;

	if (h->phase >= GRACE && h->phase < OVER && h->harsher < due)
		due = h->harsher;
	if (due == NEVER)
		return -1;
	if (due <= now)
		return 0;
	return (due - now) / 1000000 > 60000 ? 60000 : (int)((due - now) / 1000000) + 1;
}

static int fill_polls(struct head *h)
{
	const bool room = sink_waiting(&h->out) < QUEUE_MAX && sink_waiting(&h->err) < QUEUE_MAX;
	struct pollfd *p = h->polls;
	int n = 4;

	p[0] = (struct pollfd){.fd = h->signals, .events = POLLIN};
	p[1] = (struct pollfd){.fd = wants_input(h) ? STDIN_FILENO : -1, .events = POLLIN};
	p[2] = (struct pollfd){.fd = sink_waiting(&h->out) ? h->out.fd : -1, .events = POLLOUT};
	p[3] = (struct pollfd){.fd = sink_waiting(&h->err) ? h->err.fd : -1, .events = POLLOUT};
	for (int i = 0; i < h->npeers; i++, n++) {
		const struct peer *a = &h->peer[i];
		short events = (short)((room ? POLLIN : 0) | (a->to.len ? POLLOUT : 0));
		p[n] = (struct pollfd){.fd = events ? a->fd : -1, .events = events};
	}
	return n;
}

static void take_signals(struct head *h)
{
	for (int sig; (sig = os_signals_next(h->signals));)
		take_signal(h, sig);
}

static void serve_peer(struct head *h, struct peer *p, short revents)
{
	if (p->fd >= 0 && (revents & (POLLIN | POLLHUP | POLLERR)))
		hear(h, p);
	/* A broken pipe shows as the end of what we hear, with the last words before it. */
	if (p->fd >= 0 && !buf_flush(&p->to, p->fd))
		buf_drop(&p->to, p->to.len);
}

static void watch_clock(struct head *h)
{
	uint64_t now = now_ns();

	if (now >= h->limit)
		time_is_up(h);
	if (h->phase >= GRACE && h->phase < OVER && now >= h->harsher)
		go_on(h);
}

/* A reader that has left needs no report. A full disk does; loss of stderr can be reported only by the status. */
static void watch_outputs(struct head *h)
{
	bool was_running = h->phase == RUNNING, lost = h->out.error && !h->output_lost;

	if (lost && h->out.error != EPIPE)
		say(h, "can't write the output: %s", strerror(h->out.error));
	if (lost)
		fail_first(h, h->out.error == EPIPE ? 128 + SIGPIPE : STATUS_OUTPUT);
	else if (h->err.error && h->err.error != EPIPE && !h->output_lost)
		fail_first(h, STATUS_OUTPUT);
	else
		return;
	h->output_lost = true;
	if (was_running)
		enter(h, ENDING, HARSHER_S);
}

static void turn(struct head *h)
{
	int n = fill_polls(h);

	if (poll(h->polls, (nfds_t)n, wait_ms(h)) < 0)
		return;
	if (h->polls[0].revents)
		take_signals(h);
	if (h->polls[1].revents)
		take_input(h);
	for (int i = 0; i < h->npeers; i++)
		serve_peer(h, &h->peer[i], h->polls[4 + i].revents);
	sink_flush(&h->err);
	sink_flush(&h->out);
	watch_outputs(h);
	watch_clock(h);
	if (h->alive == 0)
		h->phase = OVER;
}

/* Print the remaining output, until it is printed or a signal comes. */
static void print_rest(struct head *h)
{
	while (sink_waiting(&h->out) || sink_waiting(&h->err)) {
		struct pollfd p[3] = {
		        {.fd = h->signals, .events = POLLIN},
		        {.fd = sink_waiting(&h->out) ? h->out.fd : -1, .events = POLLOUT},
		        {.fd = sink_waiting(&h->err) ? h->err.fd : -1, .events = POLLOUT},
		};
		poll(p, 3, -1);
		if (p[0].revents)
			return;
		sink_flush(&h->err);
		sink_flush(&h->out);
		watch_outputs(h);
	}
}

/* Signals for the job. Signals that our parent told us to ignore (nohup, a script's &) stay ignored. */
static int listen_to_signals(void)
{
	static const int heard[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	struct sigaction old;
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* write says so */
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++)
		if (sigaction(heard[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, heard[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return os_signals_open(&set);
}

/* The ranks of each host that has any, next to each other in one list. */
static void make_peers(struct head *h, const int *host_of, int *list)
{
	for (int i = 0; i < h->o->hosts.n; i++) {
		struct peer *p = &h->peer[h->npeers];
		*p = (struct peer){.host = &h->o->hosts.host[i], .fd = -1, .rank = list};
		for (int r = 0; r < h->o->n; r++) {
			if (host_of[r] != i)
				continue;
			*list++ = r;
			p->count++;
			h->rank[r].peer = p;
		}
		h->npeers += p->count > 0;
	}
}

static int place_ranks(struct head *h)
{
	const struct run_options *o = h->o;
	int *host_of = calloc((size_t)o->n, sizeof(*host_of)), rc;

	h->peer = calloc((size_t)o->hosts.n + 1, sizeof(*h->peer));
	h->rank = calloc((size_t)o->n, sizeof(*h->rank));
	h->ranks_by_host = calloc((size_t)o->n, sizeof(*h->ranks_by_host));
	h->polls = calloc((size_t)o->hosts.n + 4, sizeof(*h->polls));
	rc = host_of && h->peer && h->rank && h->ranks_by_host && h->polls
	             ? hosts_place(&o->hosts, o->n, host_of)
	             : fail(TUTTI_ENOMEM, "out of memory for %d ranks", o->n);
	if (rc == TUTTI_OK)
		make_peers(h, host_of, h->ranks_by_host);
	free(host_of);
	return rc;
}

static int start_agents(struct head *h)
{
	unsigned char key[AUTH_KEY];
	char secret[2 * AUTH_KEY + 1];
	int rc = auth_init();

	if (rc != TUTTI_OK)
		return rc;
	auth_random(key, sizeof(key));
	for (int i = 0; i < AUTH_KEY; i++)
		snprintf(secret + 2 * i, 3, "%02x", key[i]);
	for (int i = 0; rc == TUTTI_OK && i < h->npeers; i++) {
		rc = agent_start(h->peer[i].host->name, h->o->rsh, &h->peer[i].pid, &h->peer[i].fd);
		if (rc == TUTTI_OK)
			send_job(h, &h->peer[i], secret);
	}
	return rc;
}

/* The end of its stream tells each agent to end, all at once; then they share one time to do so. */
static void clean_up(struct head *h)
{
	uint64_t due = after(2 * HARSHER_S), now;

	for (int i = 0; i < h->npeers; i++)
		if (h->peer[i].fd >= 0)
			close(h->peer[i].fd);
	for (int i = 0; i < h->npeers; i++) {
		now = now_ns();
		if (h->peer[i].pid > 0)
			agent_end(h->peer[i].pid, now < due ? (double)(due - now) / (double)SECOND_NS : 0);
		buf_free(&h->peer[i].from);
		buf_free(&h->peer[i].to);
	}
	for (int r = 0; h->rank && r < h->o->n; r++) {
		buf_free(&h->rank[r].out.part);
		buf_free(&h->rank[r].err.part);
	}
	buf_free(&h->out.queue);
	buf_free(&h->err.queue);
	free(h->peer);
	free(h->rank);
	free(h->ranks_by_host);
	free(h->polls);
}

int head_run(const struct run_options *o)
{
	struct head h = {
	        .o = o,
	        .out.fd = STDOUT_FILENO,
	        .err.fd = STDERR_FILENO,
	        .alive = o->n,
	        .harsher = NEVER,
	        .limit = o->timeout > 0 ? after(o->timeout) : NEVER,
	        .signals = listen_to_signals(),
	};

	if (place_ranks(&h) != TUTTI_OK) {
		say(&h, "%s", fail_text());
		fail_first(&h, 1);
	} else if (start_agents(&h) != TUTTI_OK) {
		say(&h, "%s", fail_text());
		fail_first(&h, STATUS_LOST);
	}
	while (h.phase != OVER)
		turn(&h);
	print_rest(&h);
	clean_up(&h);
	return h.status;
}

int head_show(const struct run_options *o)
{
	struct head h = {.o = o};
	char cpus[256];
	int rc = place_ranks(&h);

	if (rc != TUTTI_OK)
		fprintf(stderr, "tutti-run: %s\n", fail_text());
	for (int i = 0; rc == TUTTI_OK && i < h.npeers; i++) {
		const struct peer *p = &h.peer[i];
		bool here = host_is_here(p->host->name);
		struct binding *b = here ? bind_plan(o->bind, p->count) : NULL;
		for (int k = 0; k < p->count; k++) {
			printf("rank %d on %s, local rank %d, cpus %s:", p->rank[k], p->host->name, k,
			       here ? bind_text(b, k, cpus, sizeof(cpus)) : o->bind);
			for (int w = 0; w < o->argc; w++)
				printf(" %s", o->argv[w]);
			printf("\n");
		}
		bind_free(b);
	}
	clean_up(&h);
	return rc == TUTTI_OK ? 0 : 1;
}
