/* SPDX-License-Identifier: MIT */
/*
 * Memory that a rank can't reach: a process that lost the right to read another one while messages were on their way, as
 * after setuid, PR_SET_DUMPABLE or a seccomp filter, goes on with copies; a buffer that is not there ends the call with an
 * error that says whose it is.
 */
#include "fault.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define FLOATS   300000 /* several slots at a time, and some rounds of them */
#define MESSAGES 6

/* From here on process_vm_readv fails in this thread. */
static int forbid_reading(int error)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0
	               ? 0
	               : -1;
}

static bool can_read(int pid, const void *at)
{
	char byte;
	struct iovec mine = {&byte, 1}, theirs = {(void *)(uintptr_t)at, 1};
	return process_vm_readv(pid, &mine, 1, &theirs, 1, 0) == 1;
}

static void fill(float *x, int rank, int message)
{
	for (int i = 0; i < FLOATS; i++)
		x[i] = (float)(rank * 1000 + message * 100 + i % 97);
}

static int holds(const float *x, int rank, int message)
{
	for (int i = 0; i < FLOATS; i++)
		if (x[i] != (float)(rank * 1000 + message * 100 + i % 97))
			return ranks_fail("message %d: element %d is %g", message, i, (double)x[i]);
	return 0;
}

/* All messages at a time, to the next and from the one before. */
static int exchange(struct tutti_comm *c, float (*in)[FLOATS], float (*out)[FLOATS])
{
	struct tutti_request *reqs[2 * MESSAGES];
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), to = (me + 1) % n, from = (me + n - 1) % n;
	for (int i = 0; i < MESSAGES; i++) {
		fill(in[i], me, i);
		memset(out[i], 0, sizeof(out[i]));
		RANK_OK(tutti_recv(out[i], FLOATS, TUTTI_F32, from, c, &reqs[2 * i]));
		RANK_OK(tutti_send(in[i], FLOATS, TUTTI_F32, to, c, &reqs[2 * i + 1]));
	}
	RANK_OK(tutti_wait_all(reqs, 2 * MESSAGES));
	for (int i = 0; i < MESSAGES; i++)
		if (holds(out[i], from, i))
			return 1;
	return 0;
}

/* The victim's rights go while the others have sent, or before. */
static int rights_are_lost(struct tutti_comm *c, void *arg)
{
	static float in[MESSAGES][FLOATS], out[MESSAGES][FLOATS], all[3 * FLOATS];
	struct stage *s = arg;
	struct tutti_request *req;
	struct tutti_comm *again;
	int n = tutti_comm_size(c), me = tutti_comm_rank(c), before = (me + n - 1) % n;
	if (exchange(c, in, out))
		return 1;
	ranks_meet();
	fill(in[0], me, 9);
	ranks_note("a message that was sent while it could be read");
	RANK_OK(tutti_send(in[0], FLOATS, TUTTI_F32, (me + 1) % n, c, &req));
	ranks_meet();
	if (me == s->victim)
		RANK_CHECK(forbid_reading(s->variant) == 0);
	RANK_OK(tutti_recv(out[0], FLOATS, TUTTI_F32, before, c, NULL));
	RANK_OK(tutti_wait(&req));
	if (holds(out[0], before, 9))
		return 1;
	for (int i = 0; i < 3; i++) {
		ranks_note("exchange %d after rank %d can't read others", i, s->victim);
		if (exchange(c, in, out))
			return 1;
	}
	fill(in[0], me, 3);
	RANK_OK(tutti_allgather(in[0], all, FLOATS, TUTTI_F32, c, NULL));
	for (int r = 0; r < n; r++)
		if (holds(all + (size_t)r * FLOATS, r, 3))
			return 1;
	ranks_note("a communicator that is made afterwards");
	RANK_OK(tutti_comm_split(c, 0, 0, &again));
	if (exchange(again, in, out))
		return 1;
	RANK_OK(tutti_comm_destroy(again));
	return 0;
}

static void what_cannot_be_read_is_copied(void **state)
{
	static const int errors[] = {EPERM, ENOSYS};
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		pause_us(10000000);
		_exit(0);
	}
	bool readable = can_read(child, &child);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (!readable) {
		print_message("no process can be read here\n");
		skip();
	}
	for (int i = 0; i < 2; i++) {
		struct stage *s = stage_new(WAY_SHM);
		s->n = 3;
		s->victim = i;
		s->variant = errors[i];
		if (stage_run(s, (struct ranks){0}, rights_are_lost, "TUTTI_ALGO=allgather:ring", NULL))
			fail_msg("%s", strerror(errors[i]));
		stage_free(s);
	}
}

/* ---- buffers that are not there ------------------------------------------------------------------------------------ */

/* Of 4 * FLOATS bytes: the second half can't be used so. */
static float *half_a_buffer(int protection)
{
	size_t bytes = (4 * FLOATS / 4096 + 1) * 4096;
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p != MAP_FAILED && mprotect(p + bytes / 8192 * 4096, bytes - bytes / 8192 * 4096, protection) != 0)
		p = MAP_FAILED;
	return p == MAP_FAILED ? NULL : (float *)p;
}

/* Rank 0 sends to rank 1, which has been told where the message is to go before it comes. variant: the receiver's is missing. */
static int half_is_missing(struct tutti_comm *c, void *arg)
{
	static float x[FLOATS], y[FLOATS];
	struct stage *s = arg;
	struct tutti_request *req = NULL;
	int me = tutti_comm_rank(c), rc;
	float *half = half_a_buffer(s->variant ? PROT_READ : PROT_NONE);
	float *in = s->variant ? x : half, *out = s->variant ? half : y;
	RANK_CHECK(half);
	rc = me ? tutti_recv(y, FLOATS, TUTTI_F32, 0, c, NULL) : tutti_send(x, FLOATS, TUTTI_F32, 1, c, NULL);
	RANK_OK(rc);
	if (me)
		RANK_OK(tutti_recv(out, FLOATS, TUTTI_F32, 0, c, &req));
	ranks_meet();
	uint64_t begin = clock_ns();
	ranks_note("a message with half a buffer");
	rc = me ? tutti_wait(&req) : tutti_send(in, FLOATS, TUTTI_F32, 1, c, NULL);
	if (!rc)
		rc = tutti_barrier(c, NULL);
	RANK_STATUS(TUTTI_ESYSTEM, rc);
	RANK_CHECK(!ranks_too_late(begin, DEATH_SECONDS));
	if (s->variant)
		return says(c, "rank 1 in recv #2") || says(c, "this rank's buffer can't be written at 0x") ||
		       says(c, "Bad address");
	if (s->way == WAY_TCP)
		return says(c, "rank 0 in send #2") || says(c, "this rank's buffer can't be read at 0x") ||
		       says(c, "Bad address");
	return says(c, "rank 1 in recv #2") ||
	       says(c, "the buffer of the sender, process %d,", atomic_load(&s->pid[0]));
}

static int with_half_a_buffer(struct tutti_comm *c, void *arg)
{
	static float x[FLOATS], y[FLOATS];
	struct stage *s = arg;
	struct tutti_comm *other;
	atomic_store(&s->pid[tutti_comm_rank(c)], (int)getpid());
	RANK_OK(tutti_comm_split(c, 0, 0, &other));
	if (half_is_missing(other, s))
		return 1;
	RANK_OK(tutti_comm_destroy(other));
	ranks_note("the communicator that has nothing to do with it");
	RANK_OK(tutti_allreduce(x, y, FLOATS, TUTTI_F32, TUTTI_SUM, c, NULL));
	return 0;
}

static void missing_buffers_are_named(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = 0; variant < 2; variant++) {
			struct stage *s = stage_new(way);
			s->n = 2;
			s->variant = variant;
			if (stage_run(s, (struct ranks){0}, with_half_a_buffer, NULL))
				fail_msg("%s, %s", way_names[way], variant ? "receiving" : "sending");
			stage_free(s);
		}
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(what_cannot_be_read_is_copied, nothing_left),
	        cmocka_unit_test_teardown(missing_buffers_are_named, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
