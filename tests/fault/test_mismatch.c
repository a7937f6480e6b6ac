/* SPDX-License-Identifier: MIT */
/*
 * Ranks that call different things: in count, type, operation, root or collective, also where the counts lead them to
 * different algorithms and links. All get EMISMATCH soon, whatever the deadline, with both calls in the text.
 */
#include "fault.h"

#include "../../src/comm/comm.h"

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

/* ---- choices -------------------------------------------------------------------------------------------------------- */

/* A rank of another mind: its tuner is changed after the settings were compared. */
static const struct mind {
	const char *name;
	enum way way;
	const char *all, *odd; /* TUTTI_ALGO of all ranks; and the odd one's, or NULL */
	int channels;          /* the odd one's, or 0 */
	int slots;             /* into how many the odd one cuts a slot, or 0 */
	const char *most_text, *odd_text;
} minds[] = {
        {"algorithm", WAY_TCP, "TUTTI_ALGO=allreduce:ring", "allreduce:tree", 0, 0, "ring x1", "tree x1"},
        {"channels", WAY_TCP, "TUTTI_ALGO=allreduce:ring", NULL, 3, 0, "ring x1", "ring x3"},
        {"chunk", WAY_TCP, "TUTTI_ALGO=allreduce:doubling", NULL, 0, 4, "in chunks of", "in chunks of"},
        {"direct or by links", WAY_SHM, "TUTTI_ALGO=allreduce:direct", "allreduce:ring", 0, 0, "direct ", "ring x"},
};

static int be_of_another_mind(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	const struct mind *m = &minds[s->variant];
	size_t count = m->slots ? 1 << 18 : 1000;
	if (tutti_comm_rank(c) == s->victim) {
		c->tuner.channels = m->channels ? m->channels : c->tuner.channels;
		c->world->params.slot /= m->slots ? m->slots : 1;
		RANK_OK(m->odd ? tuner_allow(&c->tuner, m->odd) : TUTTI_OK);
	}
	ranks_meet();
	uint64_t begin = clock_ns();
	int rc = tutti_allreduce(in, out, count, TUTTI_F32, TUTTI_SUM, c, NULL);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "ranks disagree about how to run allreduce #1 (%zu x f32, sum): rank ", count) |
	       says(c, "rank %d", s->victim) | says(c, "%s", m->most_text) | says(c, "%s", m->odd_text) |
	       is_out_of_use(c, TUTTI_EMISMATCH);
}

static void choices_that_differ(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(minds) / sizeof(*minds); i++) {
		struct stage *s = stage_new(minds[i].way);
		s->variant = (int)i;
		s->victim = 1;
		if (stage_run(s, (struct ranks){0}, be_of_another_mind, minds[i].all, NULL))
			fail_msg("%s", minds[i].name);
		stage_free(s);
	}
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

static const struct letter {
	const char *name;
	size_t sent, received;
	enum tutti_dtype type; /* of the sender; the receiver's is I8 */
	const char *sent_text;
} letters[] = {
        {"count", 100, 101, TUTTI_I8, "rank 0 sends 100 x i8"},
        {"type", 100, 100, TUTTI_F32, "rank 0 sends 100 x f32"},
        {"nothing sent", 0, 10, TUTTI_I8, "rank 0 sends 0 x i8"},
        {"nothing received", 10, 0, TUTTI_I8, "rank 0 sends 10 x i8"},
        {"much sent, nothing received", 500000, 0, TUTTI_F32, "rank 0 sends another count or type"},
};
#define NLETTERS ((int)(sizeof(letters) / sizeof(letters[0])))

static int disagree_about_a_message(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	const struct letter *l = &letters[s->variant];
	int me = tutti_comm_rank(c), rc = TUTTI_OK;
	ranks_meet();
	uint64_t begin = clock_ns();
	if (me == 0)
		rc = tutti_send(in, l->sent, l->type, 1, c, NULL);
	else if (me == 1)
		rc = tutti_recv(out, l->received, TUTTI_I8, 0, c, NULL);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "%s", l->sent_text) | says(c, "rank 1 receives %zu x i8", l->received) |
	       is_out_of_use(c, TUTTI_EMISMATCH);
}

static void messages_that_do_not_match(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = 0; variant < NLETTERS; variant++) {
			struct stage *s = stage_new(way);
			s->variant = variant;
			if (stage_run(s, (struct ranks){0}, disagree_about_a_message, NULL))
				fail_msg("%s: %s", way_names[way], letters[variant].name);
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

/* ---- parts of no elements ------------------------------------------------------------------------------------------- */

static const char *const empty_names[] = {
        "allgatherv", "reduce_scatterv",         "gatherv", "scatterv", "broadcast", "broadcast of the root alone",
        "gather",     "gather to the root alone"};
#define NEMPTY ((int)(sizeof(empty_names) / sizeof(empty_names[0])))

/* Rank 0 counts 5 where the others count nothing, or the other way round. A rank that could finish alone must not. */
static int disagree_about_an_empty_part(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), rc;
	size_t counts[RANKS_MAX] = {0}, five = 5 * (me == 0), none = 5 * (me != 0);
	counts[1] = five;
	ranks_meet();
	ranks_note("%s", empty_names[s->variant]);
	uint64_t begin = clock_ns();
	switch (s->variant) {
	case 0:
		rc = tutti_allgatherv(in, out, counts, NULL, TUTTI_F32, c, NULL);
		break;
	case 1:
		rc = tutti_reduce_scatterv(in, out, counts, NULL, TUTTI_F32, TUTTI_SUM, c, NULL);
		break;
	case 2:
		rc = tutti_gatherv(in, out, counts, NULL, TUTTI_F32, 0, c, NULL);
		break;
	case 3:
		rc = tutti_scatterv(in, out, counts, NULL, TUTTI_F32, 0, c, NULL);
		break;
	case 4:
	case 5:
		rc = tutti_broadcast(in, out, s->variant == 4 ? none : five, TUTTI_F32, 0, c, NULL);
		break;
	default:
		rc = tutti_gather(in, out, s->variant == 6 ? none : five, TUTTI_F32, 0, c, NULL);
	}
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return 0;
}

static void empty_parts_are_compared(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = 0; variant < NEMPTY; variant++) {
			struct stage *s = stage_new(way);
			s->variant = variant;
			if (stage_run(s, (struct ranks){0}, disagree_about_an_empty_part, NULL))
				fail_msg("%s: %s", way_names[way], empty_names[variant]);
			stage_free(s);
		}
}

/* What rank 1 sends to rank 2, and what that one expects. */
static const struct {
	size_t sent, expected;
	const char *text;
} exchanges[] = {
        {0, 100, "rank 1 sends 0 elements to rank 2, but rank 2 expects 100 from rank 1"},
        {100, 0, "rank 1 sends 100 elements to rank 2, but rank 2 expects 0 from rank 1"},
        {99, 100, "rank 1 sends 99 elements to rank 2, but rank 2 expects 100 from rank 1"},
        {3 << 18, 1 << 18, "rank 1 sends another number of elements to rank 2, but rank 2 expects 262144 from rank 1"},
};

static int disagree_about_an_exchange(struct tutti_comm *c, void *arg)
{
	struct stage *s = arg;
	int me = tutti_comm_rank(c), n = tutti_comm_size(c), rc;
	size_t sends[RANKS_MAX] = {0}, receives[RANKS_MAX] = {0};
	for (int r = 0; r < n; r++)
		sends[r] = receives[r] = (size_t)(r + me) % 2;
	if (me == 1)
		sends[2] = exchanges[s->variant].sent;
	if (me == 2)
		receives[1] = exchanges[s->variant].expected;
	ranks_meet();
	uint64_t begin = clock_ns();
	rc = tutti_alltoallv(in, sends, NULL, out, receives, NULL, TUTTI_F32, c, NULL);
	if (rc == TUTTI_OK)
		rc = tutti_barrier(c, NULL);
	if (rc != TUTTI_EMISMATCH || ranks_too_late(begin, SECONDS))
		return ranks_fail("status %d after %.2f s: %s", rc, seconds_since(begin), tutti_last_error(c));
	return says(c, "%s", exchanges[s->variant].text);
}

static void counts_of_a_pair_are_compared(void **state)
{
	(void)state;
	for (enum way way = WAY_SHM; way <= WAY_TCP; way++)
		for (int variant = 0; variant < 4; variant++) {
			struct stage *s = stage_new(way);
			s->variant = variant;
			if (stage_run(s, (struct ranks){0}, disagree_about_an_exchange, NULL))
				fail_msg("%s: %zu sent, %zu expected", way_names[way], exchanges[variant].sent,
				         exchanges[variant].expected);
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
	        cmocka_unit_test_teardown(choices_that_differ, nothing_left),
	        cmocka_unit_test_teardown(messages_that_do_not_match, nothing_left),
	        cmocka_unit_test_teardown(counts_that_differ, nothing_left),
	        cmocka_unit_test_teardown(empty_parts_are_compared, nothing_left),
	        cmocka_unit_test_teardown(counts_of_a_pair_are_compared, nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
