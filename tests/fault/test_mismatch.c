/*
 * Ranks that call different things: in count, type, operation, root or collective, also where the counts lead them to
 * different algorithms and links. All get EMISMATCH soon, whatever the deadline, with both calls in the text.
 */
#include "fault.h"

#define SECONDS 2.0 /* the bound is 1 s; the machine may be slow */

/* One rank's call; `coll` as in enum below. */
enum what { ALLREDUCE, ALLGATHER, REDUCE_SCATTER, BROADCAST, REDUCE, ALLTOALL, BARRIER };

struct asked {
	enum what coll;
	size_t count;
	enum tutti_dtype type;
	enum tutti_op op;
	int root;
};

static const struct pair {
	const char *name;
	struct asked most, odd; /* what all ranks but one call, and what that one does */
	const char *most_text, *odd_text;
} pairs[] = {
        {"count",
         {ALLREDUCE, 1000, TUTTI_F32, TUTTI_SUM, 0},
         {ALLREDUCE, 1001, TUTTI_F32, TUTTI_SUM, 0},
         "allreduce (1000 x f32, sum)",
         "allreduce (1001 x f32, sum)"},
        {"count, far apart",
         {ALLREDUCE, 2, TUTTI_F32, TUTTI_SUM, 0},
         {ALLREDUCE, 2 << 20, TUTTI_F32, TUTTI_SUM, 0},
         "allreduce (2 x f32, sum)",
         "allreduce (2097152 x f32, sum)"},
        {"count, far apart the other way",
         {ALLREDUCE, 2 << 20, TUTTI_F32, TUTTI_SUM, 0},
         {ALLREDUCE, 2, TUTTI_F32, TUTTI_SUM, 0},
         "allreduce (2097152 x f32, sum)",
         "allreduce (2 x f32, sum)"},
        {"count 0",
         {ALLREDUCE, 5, TUTTI_F32, TUTTI_SUM, 0},
         {ALLREDUCE, 0, TUTTI_F32, TUTTI_SUM, 0},
         "allreduce (5 x f32, sum)",
         "allreduce (0 x f32, sum)"},
        {"count 0 of most",
         {ALLGATHER, 0, TUTTI_F32, TUTTI_SUM, 0},
         {ALLGATHER, 5, TUTTI_F32, TUTTI_SUM, 0},
         "allgather (0 x f32)",
         "allgather (5 x f32)"},
        {"type",
         {ALLREDUCE, 500, TUTTI_I32, TUTTI_SUM, 0},
         {ALLREDUCE, 500, TUTTI_F32, TUTTI_SUM, 0},
         "allreduce (500 x i32, sum)",
         "allreduce (500 x f32, sum)"},
        {"operation",
         {REDUCE_SCATTER, 300, TUTTI_BF16, TUTTI_MIN, 0},
         {REDUCE_SCATTER, 300, TUTTI_BF16, TUTTI_MAX, 0},
         "reduce_scatter (300 x bf16, min)",
         "reduce_scatter (300 x bf16, max)"},
        {"root",
         {BROADCAST, 70000, TUTTI_U8, TUTTI_SUM, 0},
         {BROADCAST, 70000, TUTTI_U8, TUTTI_SUM, 1},
         "broadcast (70000 x u8, root 0)",
         "broadcast (70000 x u8, root 1)"},
        {"root of a reduction",
         {REDUCE, 4, TUTTI_F64, TUTTI_SUM, 2},
         {REDUCE, 4, TUTTI_F64, TUTTI_SUM, 3},
         "reduce (4 x f64, sum, root 2)",
         "reduce (4 x f64, sum, root 3)"},
        {"collective",
         {ALLGATHER, 64, TUTTI_I8, TUTTI_SUM, 0},
         {ALLTOALL, 64, TUTTI_I8, TUTTI_SUM, 0},
         "allgather (64 x i8)",
         "alltoall (64 x i8)"},
        {"a barrier",
         {BARRIER, 0, TUTTI_I8, TUTTI_SUM, 0},
         {ALLREDUCE, 1 << 19, TUTTI_F32, TUTTI_AVG, 0},
         "called barrier",
         "allreduce (524288 x f32, avg)"},
};
#define NPAIRS ((int)(sizeof(pairs) / sizeof(pairs[0])))

static char in[16 << 20], out[16 << 20];

static int ask(const struct asked *a, struct tutti_comm *c)
{
	switch (a->coll) {
	case ALLREDUCE:
		return tutti_allreduce(in, out, a->count, a->type, a->op, c, NULL);
	case ALLGATHER:
		return tutti_allgather(in, out, a->count, a->type, c, NULL);
	case REDUCE_SCATTER:
		return tutti_reduce_scatter(in, out, a->count, a->type, a->op, c, NULL);
	case BROADCAST:
		return tutti_broadcast(in, out, a->count, a->type, a->root, c, NULL);
	case REDUCE:
		return tutti_reduce(in, out, a->count, a->type, a->op, a->root, c, NULL);
	case ALLTOALL:
		return tutti_alltoall(in, out, a->count, a->type, c, NULL);
	default:
		return tutti_barrier(c, NULL);
	}
}

/* A rank whose own part is done finds out from its next call. */
static int disagree(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	const struct pair *p = &pairs[s->variant];
	int me = tutti_comm_rank(c), rc;
	ranks_meet();
	ranks_note("%s, rank %d is odd", p->name, s->victim);
	uint64_t begin = clock_ns();
	rc = ask(me == s->victim ? &p->odd : &p->most, c);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH)
		return ranks_fail("status %d: %s", rc, tutti_last_error(c));
	if (ranks_too_late(begin, SECONDS))
		return ranks_fail("took %.2f s: %s", seconds_since(begin), tutti_last_error(c));
	return says(c, "%s", p->most_text) | says(c, "%s", p->odd_text) | says(c, "rank %d", s->victim) |
	       is_out_of_use(c, TUTTI_EMISMATCH);
}

static void disagree_by(enum way way, const char *how)
{
	for (int i = 0; i < NPAIRS; i++) {
		struct stage *s = stage_new(way);
		s->variant = i;
		s->victim = (i * 5 + 3) % s->n;
		if (stage_run(s, (struct ranks){0}, disagree, how, NULL))
			fail_msg("%s: %s, rank %d is odd", way_names[way], pairs[i].name, s->victim);
		stage_free(s);
	}
}

static void mismatch_by_memory(void **state)
{
	(void)state;
	disagree_by(WAY_SHM, NULL);
}

static void mismatch_by_plans_in_memory(void **state)
{
	(void)state;
	disagree_by(WAY_SHM, "TUTTI_DIRECT=0");
}

static void mismatch_by_tcp(void **state)
{
	(void)state;
	disagree_by(WAY_TCP, NULL);
}

static void mismatch_on_two_hosts(void **state)
{
	(void)state;
	disagree_by(WAY_HOSTS, NULL);
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

static int disagree_about_a_message(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	bool type = s->variant == 1;
	ranks_meet();
	uint64_t begin = clock_ns();
	if (me == 0)
		rc = tutti_send(in, 100, type ? TUTTI_F32 : TUTTI_I8, 1, c, NULL);
	else if (me == 1)
		rc = tutti_recv(out, type ? 100 : 101, TUTTI_I8, 0, c, NULL);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "rank 1") | says(c, "rank 0") | is_out_of_use(c, TUTTI_EMISMATCH);
}

static void messages_that_do_not_match(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = 0; variant < 2; variant++) {
			struct stage *s = stage_new(way);
			s->variant = variant;
			if (stage_run(s, (struct ranks){0}, disagree_about_a_message, NULL))
				fail_msg("%s: %s", way_names[way], variant ? "type" : "count");
			stage_free(s);
		}
}

/* ---- v-forms -------------------------------------------------------------------------------------------------------- */

static int disagree_about_counts(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), rc;
	size_t counts[RANKS_MAX];
	for (int r = 0; r < n; r++)
		counts[r] = (size_t)(10 * r + 1);
	if (me == s->victim)
		counts[2]++;
	ranks_meet();
	uint64_t begin = clock_ns();
	rc = tutti_allgatherv(in, out, counts, NULL, TUTTI_F32, c, NULL);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "allgatherv") | says(c, "rank %d", s->victim);
}

static void counts_that_differ(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_HOSTS; way++) {
		struct stage *s = stage_new(way);
		s->victim = 1;
		if (stage_run(s, (struct ranks){0}, disagree_about_counts, NULL))
			fail_msg("%s", way_names[way]);
		stage_free(s);
	}
}

int main(int argc, char **argv)
{
	be_alone(argc, argv);
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(mismatch_by_memory, nothing_left),
	        cmocka_unit_test_teardown(mismatch_by_plans_in_memory, nothing_left),
	        cmocka_unit_test_teardown(mismatch_by_tcp, nothing_left),
	        cmocka_unit_test_teardown(mismatch_on_two_hosts, nothing_left),
	        cmocka_unit_test_teardown(messages_that_do_not_match, nothing_left),
	        cmocka_unit_test_teardown(counts_that_differ, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
