/* SPDX-License-Identifier: MIT */
/*
 * Two levels: inside each host, across hosts, inside each host. Memory is faster than any network, so each byte
 * crosses the network as rarely as it can, and all lanes carry their share at once: with q the smallest number of
 * ranks on a host, the first q ranks of each are leaders, and leader j works with the leaders j of the other hosts on
 * the j-th share of the data.
 *
 * Nothing here is an algorithm of its own: the phases are those of the flat algorithms, among other teams. Phases that
 * hand on through OUT are strands, so that the chunks of a long message are at all levels at once. A reduction keeps
 * its sums in scratch, which belongs to one strand; there, too, a separate strand carries what ranks send to their
 * leaders.
 */
#include "team.h"

#include <stdlib.h>

struct hier {
	const struct plan_args *a;
	struct team all;          /* every rank, host by host: hosts are numbered as they come here */
	struct team host, across; /* the ranks of this host; the leaders of this rank's lane, one a host */
	int *start;               /* of each host in `all`; [nhosts] = nranks */
	int q, mine;              /* leaders of each host; this host */
	bool ring;                /* across hosts: a ring; otherwise what is fastest for little data */
	int channel;
};

static int size_of(const struct hier *x, int host)
{
	return x->start[host + 1] - x->start[host];
}

static int rank_of(const struct hier *x, int host, int i)
{
	return x->all.rank[x->start[host] + i];
}

static bool is_leader(const struct hier *x)
{
	return x->host.me < x->q;
}

static void hier_free(struct hier *x)
{
	team_free(&x->all);
	team_free(&x->host);
	team_free(&x->across);
	free(x->start);
}

/* Number of a rank's host. */
static int host_of(const struct hier *x, int rank)
{
	int place = team_member(&x->all, rank), h = 0;
	while (x->start[h + 1] <= place)
		h++;
	return h;
}

/* Where each host begins in `all`, and how many ranks the smallest has. */
static void count_hosts(struct hier *x, const struct shape *shape)
{
	int h = 0;
	for (int i = 1; i < shape->nranks; i++)
		if (shape->host[x->all.rank[i]] != shape->host[x->all.rank[i - 1]])
			x->start[++h] = i;
	x->start[shape->nhosts] = shape->nranks;
	for (h = 0; h < shape->nhosts; h++)
		x->q = size_of(x, h) < x->q ? size_of(x, h) : x->q;
}

static bool hier_make(struct plan_builder *b, struct hier *x, const struct plan_args *a, bool ring)
{
	int hosts = a->shape->nhosts;
	*x = (struct hier){.a = a, .ring = ring, .q = a->nranks};
	x->start = calloc((size_t)hosts + 1, sizeof(*x->start));
	b->failed |= !x->start;
	if (b->failed || !team_by_host(b, &x->all, a, 1, 0))
		return false;
	count_hosts(x, a->shape);
	x->mine = host_of(x, a->rank);
	if (!team_make(b, &x->host, size_of(x, x->mine)) || !team_make(b, &x->across, hosts))
		return false;
	for (int i = 0; i < x->host.n; i++)
		x->host.rank[i] = rank_of(x, x->mine, i);
	x->host.me = team_member(&x->host, a->rank);
	for (int h = 0; is_leader(x) && h < hosts; h++)
		x->across.rank[h] = rank_of(x, h, x->host.me);
	x->across.me = x->mine;
	x->across.final = STEP_FINAL;
	return true;
}

/* Lanes: the way to the leaders and across hosts; the way back. */
static void set_lanes(struct hier *x, bool back)
{
	x->host.lane = x->across.lane = x->channel + (back ? x->a->channels : 0);
}

static void set_buffers(struct team *t, enum plan_buf in, enum plan_buf out)
{
	t->in = in;
	t->out = out;
}

/* ---- whole vectors: leader j owns the j-th of q blocks, or of each `items` times q blocks ---------------------- */

static struct block_set share(const struct hier *x, int item, int leader)
{
	return block_one((item * x->q + leader) * x->a->channels + x->channel);
}

static void own_shares(struct hier *x, int item)
{
	for (int i = 0; i < x->host.n; i++)
		x->host.own[i] = i < x->q ? share(x, item, i) : (struct block_set){0};
}

static void allreduce(struct plan_builder *b, struct hier *x)
{
	int items = x->ring ? x->across.n : 1;
	bool alone = x->host.n == 1;
	int inside = plan_strand(b, -1);
	set_buffers(&x->host, BUF_IN, BUF_OUT);
	for (int item = 0; !alone && item < items; item++) {
		own_shares(x, item);
		pairwise_reduce_scatter(b, &x->host);
	}
	int across = plan_strand(b, inside);
	set_buffers(&x->across, alone ? BUF_IN : BUF_OUT, BUF_OUT);
	for (int h = 0; x->ring && h < x->across.n; h++)
		x->across.own[h] = share(x, h, x->host.me);
	if (is_leader(x) && x->ring)
		ring_allreduce(b, &x->across);
	else if (is_leader(x))
		doubling_allreduce(b, &x->across, share(x, 0, x->host.me));
	plan_strand(b, across);
	set_lanes(x, true);
	set_buffers(&x->host, BUF_OUT, BUF_OUT);
	for (int item = 0; item < items; item++) {
		own_shares(x, item);
		pairwise_allgather(b, &x->host);
	}
}

/* The root hands the leaders of its host their shares. */
static void deal(struct plan_builder *b, const struct hier *x, int root)
{
	const struct team *t = &x->host;
	for (int j = 0; t->me == root && j < x->q; j++)
		if (j != root)
			send_to(b, t, j, BUF_IN, share(x, 0, j));
	for (int j = 0; t->me == root && j < x->q; j++)
		copy(b, BUF_IN, BUF_OUT, share(x, 0, j));
	if (t->me != root && is_leader(x))
		recv_from(b, t, root, BUF_OUT, share(x, 0, t->me));
}

/* Each leader passes its share to all others of the host, except `root`, which has it. */
static void spread(struct plan_builder *b, const struct hier *x, int root)
{
	const struct team *t = &x->host;
	for (int i = 0; is_leader(x) && i < t->n; i++)
		if (i != t->me && i != root)
			send_to(b, t, i, BUF_OUT, share(x, 0, t->me));
	for (int j = 0; t->me != root && j < x->q; j++)
		if (j != t->me)
			recv_from(b, t, j, BUF_OUT, share(x, 0, j));
}

static void broadcast(struct plan_builder *b, struct hier *x)
{
	int root_host = host_of(x, x->a->root), root = team_member(&x->host, x->a->root);
	int inside = plan_strand(b, -1);
	if (root >= 0)
		deal(b, x, root);
	int across = plan_strand(b, inside);
	set_buffers(&x->across, BUF_OUT, BUF_OUT);
	if (is_leader(x))
		binomial_broadcast(b, &x->across, root_host, share(x, 0, x->host.me));
	plan_strand(b, across);
	set_lanes(x, true);
	spread(b, x, root);
}

/* The leaders of the root's host hand it the sums. */
static void collect(struct plan_builder *b, const struct hier *x, int root)
{
	const struct team *t = &x->host;
	if (is_leader(x) && t->me != root)
		send_to(b, t, root, BUF_TMP, share(x, 0, t->me));
	for (int j = 0; t->me == root && j < x->q; j++)
		if (j != root)
			recv_from(b, t, j, BUF_OUT, share(x, 0, j));
}

static void reduce(struct plan_builder *b, struct hier *x)
{
	int root_host = host_of(x, x->a->root), root = team_member(&x->host, x->a->root);
	bool alone = x->host.n == 1;
	plan_strand(b, -1);
	own_shares(x, 0);
	pairwise_give(b, &x->host);
	plan_strand(b, -1);
	set_buffers(&x->host, BUF_IN, BUF_TMP);
	set_buffers(&x->across, alone ? BUF_IN : BUF_TMP, x->host.me == root ? BUF_OUT : BUF_TMP);
	if (is_leader(x) && !alone)
		team_fold_in_order(b, &x->host, share(x, 0, x->host.me));
	if (is_leader(x))
		binomial_reduce(b, &x->across, root_host, share(x, 0, x->host.me));
	set_lanes(x, true);
	if (root >= 0)
		collect(b, x, root);
}

/* ---- a part per rank: leader j carries those of the ranks j, j + q, ... of its host ---------------------------- */

static struct block_set part(const struct hier *x, int host, int i)
{
	if (i >= size_of(x, host))
		return (struct block_set){0};
	return block_one(rank_of(x, host, i) * x->a->channels + x->channel);
}

/* Inside this host the k-th row of q ranks of `host` belongs to the leaders. */
static void own_row(struct hier *x, int host, int k)
{
	for (int i = 0; i < x->host.n; i++)
		x->host.own[i] = i < x->q ? part(x, host, k * x->q + i) : (struct block_set){0};
}

/* Across hosts each leader owns the k-th part that it carries for its own host; false: none does. */
static bool own_column(struct hier *x, int k)
{
	bool any = false;
	for (int h = 0; h < x->across.n; h++) {
		x->across.own[h] = part(x, h, k * x->q + x->host.me);
		any |= x->across.own[h].n > 0;
	}
	return any;
}

static void allgather(struct plan_builder *b, struct hier *x)
{
	int inside = plan_strand(b, -1);
	for (int i = 0; i < x->host.n; i++)
		x->host.own[i] = part(x, x->mine, i);
	pairwise_allgather(b, &x->host);
	int across = plan_strand(b, inside);
	set_buffers(&x->across, BUF_OUT, BUF_OUT);
	for (int k = 0; is_leader(x) && own_column(x, k); k++)
		(x->ring ? ring_allgather : pairwise_allgather)(b, &x->across);
	plan_strand(b, across);
	set_lanes(x, true);
	set_buffers(&x->host, BUF_OUT, BUF_OUT);
	for (int h = 0; h < x->across.n; h++) {
		for (int k = 0; h != x->mine && k * x->q < size_of(x, h); k++) {
			own_row(x, h, k);
			pairwise_allgather(b, &x->host);
		}
	}
}

static void sum_across(struct plan_builder *b, struct hier *x)
{
	for (int k = 0; own_column(x, k); k++) {
		set_buffers(&x->across, x->host.n == 1 ? BUF_IN : BUF_TMP, k ? BUF_TMP : BUF_OUT);
		ring_reduce_scatter(b, &x->across);
	}
	for (int i = x->host.me + x->q; i < x->host.n; i += x->q)
		send_to(b, &x->host, i, BUF_TMP, part(x, x->mine, i));
}

static void reduce_scatter(struct plan_builder *b, struct hier *x)
{
	bool alone = x->host.n == 1;
	for (int pass = 0; pass < 2; pass++) {
		plan_strand(b, -1);
		set_buffers(&x->host, BUF_IN, BUF_TMP);
		for (int h = 0; !alone && h < x->across.n; h++) {
			for (int k = 0; k * x->q < size_of(x, h); k++) {
				own_row(x, h, k);
				if (pass == 0)
					pairwise_give(b, &x->host);
				else if (x->host.own[x->host.me].n)
					team_fold_in_order(b, &x->host, x->host.own[x->host.me]);
			}
		}
	}
	set_lanes(x, true);
	if (is_leader(x))
		sum_across(b, x);
	else
		recv_from(b, &x->host, x->host.me % x->q, BUF_OUT, part(x, x->mine, x->host.me));
}

/* ---- the rest -------------------------------------------------------------------------------------------------- */

static void barrier(struct plan_builder *b, struct hier *x)
{
	const struct team *t = &x->host;
	plan_strand(b, -1);
	if (t->me) {
		send_token(b, t, 0);
		recv_token(b, t, 0);
		return;
	}
	for (int i = 1; i < t->n; i++)
		recv_token(b, t, i);
	dissemination_barrier(b, &x->across);
	for (int i = 1; i < t->n; i++)
		send_token(b, t, i);
}

/* Blocks of one channel. */
static int blocks_of(const struct hier *x)
{
	switch (x->a->coll) {
	case COLL_ALLGATHER:
	case COLL_REDUCE_SCATTER:
		return x->a->nranks;
	case COLL_BARRIER:
		return 1;
	default:
		return x->ring ? x->q * x->across.n : x->q;
	}
}

static void build_channels(struct plan_builder *b, struct hier *x)
{
	static void (*const phases[COLL_COUNT])(struct plan_builder *, struct hier *) = {
	        [COLL_ALLREDUCE] = allreduce, [COLL_ALLGATHER] = allgather, [COLL_REDUCE_SCATTER] = reduce_scatter,
	        [COLL_BROADCAST] = broadcast, [COLL_REDUCE] = reduce,       [COLL_BARRIER] = barrier,
	};
	enum coll coll = x->a->coll;
	int channels = coll == COLL_BARRIER ? 1 : x->a->channels;
	b->plan->nblocks = channels * blocks_of(x);
	b->plan->parts = coll == COLL_ALLGATHER || coll == COLL_REDUCE_SCATTER ? channels : 1;
	b->plan->by_reference = coll != COLL_ALLREDUCE || x->ring;
	for (x->channel = 0; x->channel < channels; x->channel++) {
		set_lanes(x, false);
		set_buffers(&x->host, BUF_IN, BUF_OUT);
		phases[coll](b, x);
	}
}

static void build(struct plan_builder *b, const struct plan_args *a, bool ring)
{
	struct hier x;
	if (hier_make(b, &x, a, ring))
		build_channels(b, &x);
	hier_free(&x);
}

static void build_short(struct plan_builder *b, const struct plan_args *a)
{
	build(b, a, false);
}

static void build_ring(struct plan_builder *b, const struct plan_args *a)
{
	build(b, a, true);
}

/* ---- volumes: as if each host had as many ranks, who are all leaders then --------------------------------------- */

/*
 * To the leaders and back from them, for each of the `items` that a leader has. The next item waits for the one before; what is only given
 * to leaders, in a strand of its own, does not.
 */
static struct leg inside_of(enum coll coll, int local, int items)
{
	struct leg leg =
	        pairwise_leg(coll == COLL_REDUCE_SCATTER || coll == COLL_ALLGATHER ? coll : COLL_ALLREDUCE, local);
	leg.rounds *= coll == COLL_REDUCE_SCATTER ? 1 : items;
	leg.messages *= items;
	leg.sent = coll == COLL_BARRIER ? 0 : leg.sent * items;
	leg.reduced = coll_reduces(coll) ? leg.reduced * items : 0;
	return leg;
}

static struct leg across_of(enum coll coll, int hosts)
{
	switch (coll) {
	case COLL_ALLREDUCE:
		return doubling_leg(hosts);
	case COLL_ALLGATHER:
		return pairwise_leg(coll, hosts);
	case COLL_BARRIER:
		return dissemination_leg(hosts);
	default:
		return binomial_leg(coll, hosts);
	}
}

static void volume_of(struct volume *v, const struct plan_args *a, bool ring)
{
	int hosts = a->shape->nhosts, local = a->nranks / hosts < 2 ? 2 : a->nranks / hosts; /* some host has two */
	bool parts = a->coll == COLL_ALLGATHER || a->coll == COLL_REDUCE_SCATTER;
	v->exits = local;
	v->channels = a->coll == COLL_BARRIER ? 1 : a->channels;
	v->blocks = a->coll == COLL_BARRIER ? 1 : parts || ring ? local * hosts : local;
	v->inside = inside_of(a->coll, local, parts || ring ? hosts : 1);
	v->all = ring ? ring_leg(a->coll, hosts) : across_of(a->coll, hosts);
}

static void volume_short(struct volume *v, const struct plan_args *a)
{
	volume_of(v, a, false);
}

static void volume_ring(struct volume *v, const struct plan_args *a)
{
	volume_of(v, a, true);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static bool has_two_levels(const struct plan_args *a)
{
	return a->shape && a->shape->nhosts > 1 && a->shape->nhosts < a->nranks;
}

const struct algo algo_hierarchy = {
        .name = "hierarchy",
        .what = "inside hosts, across hosts in few rounds, inside hosts; several ranks a host, small to middle sizes",
        .source = "Karonis et al., Exploiting hierarchy in parallel computer networks, 2000",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_BROADCAST | 1u << COLL_REDUCE |
                 1u << COLL_BARRIER,
        .can = has_two_levels,
        .build = build_short,
        .volume = volume_short,
};

const struct algo algo_hierarchy_ring = {
        .name = "hierarchy-ring",
        .what = "inside hosts, rings across hosts, one a leader, inside hosts; several ranks a host, large sizes",
        .source = "Cho et al., BlueConnect: decomposing all-reduce on heterogeneous network hierarchy, 2019",
        .colls = 1u << COLL_ALLREDUCE | 1u << COLL_ALLGATHER | 1u << COLL_REDUCE_SCATTER,
        .can = has_two_levels,
        .flags = ALGO_FOLDS_ONCE,
        .build = build_ring,
        .volume = volume_ring,
};
