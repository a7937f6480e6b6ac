/* SPDX-License-Identifier: MIT */
/*
 * Launchers. Each reader below turns one launcher's variables into rank, size, a name of the job that all ranks share,
 * and where rank 0 is: on this host, or at an address. The rest is the same for all launchers: the rendezvous and the
 * key.
 *
 * On one host nothing needs to be given: rank 0 listens at the first free one of a few loopback ports derived from the
 * job's name, and the others try them all. The name is also part of the key, so that ranks of two jobs that meet at a
 * port part again.
 */
#include "launch.h"
#include "../os/os.h"
#include "../util/doc.h"
#include "../util/error.h"
#include "../util/fd.h"
#include "../util/log.h"
#include "../util/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE_LIMIT (1 << 24)
#define PORT_FIRST 20000 /* below the ports that Linux gives to outgoing connections */
#define PORT_COUNT 12768
#define HOST_CAP   240

struct reader {
	const char *launcher;
	launch_getenv *get;
	void *ctx;
	const struct params *p;
	struct launch *out;
	bool one_host;
	char job[192]; /* "": not known */
};

/* An empty variable counts as unset. */
static const char *value_of(const struct reader *r, const char *name)
{
	const char *v = r->get(r->ctx, name);
	return v && v[0] ? v : NULL;
}

static int need(const struct reader *r, const char *name, const char **value)
{
	*value = value_of(r, name);
	if (!*value)
		return fail(TUTTI_EINVAL, "%s is not set, although other variables of %s are", name, r->launcher);
	return TUTTI_OK;
}

static bool parse_number(const char *text, int min, int max, int *out)
{
	long v = 0;

	if (!*text || strlen(text) > 9)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		v = v * 10 + (*text - '0');
	}
	if (v < min || v > max)
		return false;
	*out = (int)v;
	return true;
}

static int number(const struct reader *r, const char *name, int min, int max, int *out)
{
	const char *text;
	int rc = need(r, name, &text);

	if (rc == TUTTI_OK && !parse_number(text, min, max, out))
		rc = fail(TUTTI_EINVAL, "%s=%.64s: expected a number from %d to %d", name, text, min, max);
	return rc;
}

static int rank_and_size(struct reader *r, const char *rank, const char *size)
{
	int rc = number(r, size, 1, SIZE_LIMIT, &r->out->size), top = r->out->size - 1;

	if (rc != TUTTI_OK)
		return rc;
	rc = number(r, rank, 0, SIZE_LIMIT, &r->out->rank);
	if (rc == TUTTI_OK && r->out->rank > top)
		rc = fail(TUTTI_EINVAL, "%s=%d: expected a rank from 0 to %d, because %s=%d", rank, r->out->rank, top,
		          size, r->out->size);
	return rc;
}

/* Does the launcher say that all ranks are on this host? `name` counts them; it may be missing. */
static int all_here(struct reader *r, const char *name)
{
	int local, rc;

	if (!value_of(r, name))
		return TUTTI_OK;
	rc = number(r, name, 1, r->out->size, &local);
	r->one_host = rc == TUTTI_OK && local == r->out->size;
	return rc;
}

static void name_job(struct reader *r, const char *a, const char *b)
{
	snprintf(r->job, sizeof(r->job), "%s.%s", a, b ? b : "");
}

static bool is_loopback(const char *host)
{
	return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 || strcmp(host, "::1") == 0 ||
	       (strncmp(host, "localhost", 9) == 0 && (host[9] == '\0' || host[9] == ':'));
}

/* host:port, or [v6]:port. */
static int check_root(const char *name, const char *text)
{
	const char *colon = strrchr(text, ':');
	int port;

	if (strlen(text) >= sizeof(((struct rendezvous *)NULL)->text) || !colon || colon == text ||
	    !parse_number(colon + 1, 1, 65535, &port) ||
	    (memchr(text, ':', (size_t)(colon - text)) && colon[-1] != ']'))
		return fail(TUTTI_EINVAL, "%s=%.100s: expected host:port (or [v6]:port) of rank 0", name, text);
	return TUTTI_OK;
}

static void root_at(struct reader *r, const char *host, int port)
{
	bool bare_v6 = strchr(host, ':') && host[0] != '[';

	snprintf(r->out->root.text, sizeof(r->out->root.text), bare_v6 ? "[%.240s]:%d" : "%.240s:%d", host, port);
	r->one_host = r->one_host || is_loopback(host);
}

static uint64_t hash(const char *text, int k)
{
	uint64_t h = UINT64_C(14695981039346656037) + (unsigned)k; /* FNV-1a */

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
	h ^= h >> 32;
	return h * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}

static uint16_t derived_port(const char *job, int k)
{
	return (uint16_t)(PORT_FIRST + hash(job, k) % PORT_COUNT);
}

/* TUTTI_RANK, TUTTI_SIZE: tutti-run, or the user's own hands. */
static int read_tutti(struct reader *r, bool *found)
{
	const struct params *p = r->p;

	*found = p->rank >= 0 || p->size > 0;
	if (!*found)
		return TUTTI_OK;
	if (p->size < 1 || p->size > SIZE_LIMIT)
		return fail(TUTTI_EINVAL, "TUTTI_SIZE=%lld: with TUTTI_RANK it must be from 1 to %d",
		            (long long)p->size, SIZE_LIMIT);
	if (p->rank < 0 || p->rank >= p->size)
		return fail(TUTTI_EINVAL, "TUTTI_RANK=%lld: expected a rank from 0 to %lld, because TUTTI_SIZE=%lld",
		            (long long)p->rank, (long long)p->size - 1, (long long)p->size);
	if (p->size > 1 && !p->root)
		return fail(TUTTI_EINVAL,
		            "TUTTI_ROOT is not set: give all ranks TUTTI_ROOT=host:port, with rank 0's host");
	r->out->rank = (int)p->rank;
	r->out->size = (int)p->size;
	if (p->rank == 0)
		r->out->root.listen_fd = (int)p->root_fd;
	return TUTTI_OK;
}

/* MASTER_PORT belongs to PyTorch's own store, which rank 0's host keeps open; the next port is ours. */
static int read_torchrun(struct reader *r, bool *found)
{
	const char *host, *run = value_of(r, "TORCHELASTIC_RUN_ID");
	int port, rc;

	*found = value_of(r, "RANK");
	if (!*found)
		return TUTTI_OK;
	rc = rank_and_size(r, "RANK", "WORLD_SIZE");
	if (rc == TUTTI_OK)
		rc = all_here(r, "LOCAL_WORLD_SIZE");
	if (rc != TUTTI_OK || r->out->size == 1 || r->p->root)
		return rc;
	rc = need(r, "MASTER_ADDR", &host);
	if (rc == TUTTI_OK)
		rc = number(r, "MASTER_PORT", 1, 65534, &port);
	if (rc != TUTTI_OK)
		return rc;
	if (strlen(host) > HOST_CAP)
		return fail(TUTTI_EINVAL, "MASTER_ADDR=%.64s...: too long for a host name", host);
	root_at(r, host, port + 1);
	name_job(r, value_of(r, "MASTER_PORT"), run);
	return TUTTI_OK;
}

/* Nothing names the job, but its ranks on this host have one parent: at the other end of PMI_FD, or our own. */
static void name_job_by_parent(struct reader *r)
{
	const char *text = value_of(r, "PMI_FD");
	pid_t parent;
	uid_t uid;
	int fd;

	if (!text || !parse_number(text, 0, 1 << 20, &fd) || !os_peer(fd, &parent, &uid))
		parent = getppid();
	snprintf(r->job, sizeof(r->job), "%ju.%jd", (uintmax_t)os_process_space(), (intmax_t)parent);
}

/* MPICH's hydra and similar launchers, and Slurm's PMI plug-ins. */
static int read_pmi(struct reader *r, bool *found)
{
	const char *job = value_of(r, "PMI_JOBID");
	int rc;

	*found = value_of(r, "PMI_RANK");
	if (!*found)
		return TUTTI_OK;
	rc = rank_and_size(r, "PMI_RANK", "PMI_SIZE");
	if (rc == TUTTI_OK)
		rc = all_here(r, "MPI_LOCALNRANKS");
	if (rc != TUTTI_OK)
		return rc;
	if (job)
		name_job(r, job, value_of(r, "PMI_PORT"));
	else if (r->one_host)
		name_job_by_parent(r);
	return TUTTI_OK;
}

static int read_openmpi(struct reader *r, bool *found)
{
	const char *job = value_of(r, "PMIX_NAMESPACE");
	int rc;

	*found = value_of(r, "OMPI_COMM_WORLD_RANK");
	if (!*found)
		return TUTTI_OK;
	rc = rank_and_size(r, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
	if (rc == TUTTI_OK)
		rc = all_here(r, "OMPI_COMM_WORLD_LOCAL_SIZE");
	if (rc != TUTTI_OK)
		return rc;
	if (!job)
		job = value_of(r, "OMPI_MCA_ess_base_jobid");
	if (job)
		name_job(r, job, value_of(r, "OMPI_MCA_orte_precondition_transports"));
	else if (r->one_host)
		name_job_by_parent(r);
	return TUTTI_OK;
}

/* First host of "rack[1-2]node[03-05,9],gpu1": rack1node03. */
static bool first_host(const char *list, char *out, size_t cap)
{
	size_t n = 0;

	while (*list && *list != ',' && n + 1 < cap) {
		if (*list != '[') {
			out[n++] = *list++;
			continue;
		}
		for (list++; *list >= '0' && *list <= '9' && n + 1 < cap; list++)
			out[n++] = *list;
		list = strchr(list, ']');
		if (!list)
			return false;
		list++;
	}
	out[n] = '\0';
	return n > 0 && (!*list || *list == ',');
}

/* Slurm's first task is on its step's first host; the port comes from the step's name, which is never used twice. */
static int slurm_root(struct reader *r)
{
	const char *var = value_of(r, "SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
	const char *list, *job;
	char host[HOST_CAP];
	int rc = need(r, var, &list);

	if (rc == TUTTI_OK)
		rc = need(r, "SLURM_JOB_ID", &job);
	if (rc != TUTTI_OK)
		return rc;
	if (!first_host(list, host, sizeof(host)))
		return fail(TUTTI_EINVAL, "%s=%.100s: expected a list of hosts like node[01-04,7]", var, list);
	root_at(r, host, derived_port(r->job, 0));
	return TUTTI_OK;
}

static int read_slurm(struct reader *r, bool *found)
{
	const char *step = value_of(r, "SLURM_STEP_ID"), *job = value_of(r, "SLURM_JOB_ID");
	const char *nodes = value_of(r, "SLURM_STEP_NUM_NODES");
	int rc;

	*found = value_of(r, "SLURM_PROCID");
	if (!*found)
		return TUTTI_OK;
	rc = rank_and_size(r, "SLURM_PROCID",
	                   value_of(r, "SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS");
	if (rc != TUTTI_OK || r->out->size == 1)
		return rc;
	if (!step)
		log_warn(
		        "SLURM_STEP_ID is not set: was this process started by srun? If it is to run alone, set TUTTI_RANK=0 TUTTI_SIZE=1");
	if (!nodes)
		nodes = value_of(r, "SLURM_NNODES");
	r->one_host = nodes && strcmp(nodes, "1") == 0;
	if (job)
		name_job(r, job, step);
	else if (r->one_host)
		name_job_by_parent(r);
	return r->one_host || r->p->root ? TUTTI_OK : slurm_root(r);
}

/* A variable that holds a JSON list with an entry for each rank, or the name of a file that does. doc_close in any case. */
static int load_list(const struct reader *r, const char *name, struct doc *d)
{
	const char *text;
	FILE *f = NULL;
	int rc;

	*d = (struct doc){.name = name};
	rc = need(r, name, &text);
	if (rc != TUTTI_OK)
		return rc;
	if (text[0] != '[' && !(f = file_open(text, "r")))
		return fail_while(TUTTI_EINVAL, "%s=%.200s", name, text);
	rc = f ? doc_read(d, text, f) : doc_parse(d, name, text, strlen(text));
	if (f)
		fclose(f);
	if (rc == TUTTI_EINVAL)
		return fail_while(rc, "%s=%.200s: not readable as JSON", name, text);
	if (rc == TUTTI_OK && (d->root->type != DOC_ARRAY || d->root->count == 0 || d->root->count > SIZE_LIMIT))
		rc = fail(TUTTI_EINVAL, "%s=%.200s: expected a JSON list with an entry for each rank", name, text);
	return rc;
}

/* The first address of a rank; NULL: it has none. */
static const char *address_of(const struct doc_value *rank)
{
	const struct doc_value *v = doc_element(rank, 0);

	return v && v->type == DOC_TEXT ? v->text : NULL;
}

/* MLX's ring: a list of "host:port" for each rank. The coordinator's address of its other backend goes first. */
static int mlx_root(struct reader *r, const struct doc_value *list)
{
	const char *at = value_of(r, "MLX_JACCL_COORDINATOR"), *name = "MLX_JACCL_COORDINATOR";
	bool local = false;

	if (!at && list) {
		name = "MLX_HOSTFILE";
		at = address_of(doc_first(list));
		local = true;
		for (const struct doc_value *v = doc_first(list); v; v = doc_next(list, v))
			local = local && address_of(v) && is_loopback(address_of(v));
	}
	if (!at)
		return fail(TUTTI_EINVAL, "%s: expected host:port of rank 0, found none", name);
	if (check_root(name, at) != TUTTI_OK)
		return TUTTI_EINVAL;
	snprintf(r->out->root.text, sizeof(r->out->root.text), "%s", at);
	r->one_host = local || is_loopback(at);
	return TUTTI_OK;
}

/* `list`: what `file` holds, with an entry for each rank; NULL: MLX_WORLD_SIZE alone says how many there are. */
static int mlx_ranks(struct reader *r, const char *file, const struct doc_value *list)
{
	struct launch *out = r->out;
	int rc = TUTTI_OK;

	if (list)
		out->size = (int)list->count;
	if (value_of(r, "MLX_WORLD_SIZE"))
		rc = number(r, "MLX_WORLD_SIZE", 1, SIZE_LIMIT, &out->size);
	if (rc == TUTTI_OK && list && (uint32_t)out->size != list->count)
		rc = fail(TUTTI_EINVAL, "MLX_WORLD_SIZE=%d: %s lists %u ranks", out->size, file, list->count);
	if (rc == TUTTI_OK)
		rc = number(r, "MLX_RANK", 0, out->size - 1, &out->rank);
	if (rc == TUTTI_OK && out->size > 1 && !r->p->root)
		rc = mlx_root(r, strcmp(file, "MLX_HOSTFILE") == 0 ? list : NULL);
	return rc;
}

static int read_mlx(struct reader *r, bool *found)
{
	const char *file = value_of(r, "MLX_HOSTFILE") ? "MLX_HOSTFILE" : "MLX_IBV_DEVICES";
	struct doc list = {.name = file};
	int rc = TUTTI_OK;

	*found = value_of(r, "MLX_RANK");
	if (!*found)
		return TUTTI_OK;
	if (value_of(r, file) || !value_of(r, "MLX_WORLD_SIZE"))
		rc = load_list(r, file, &list);
	if (rc == TUTTI_OK)
		rc = mlx_ranks(r, file, list.root);
	doc_close(&list);
	return rc;
}

/* rank: the variable that says that it was this launcher. size: those that tell how many ranks; one of them is needed. */
static const struct launcher {
	const char *name;
	int (*read)(struct reader *r, bool *found);
	const char *rank, *size[3];
} launchers[] = {
        {"tutti", read_tutti, NULL, {NULL}},
        {"torchrun", read_torchrun, "RANK", {"WORLD_SIZE"}},
        {"pmi", read_pmi, "PMI_RANK", {"PMI_SIZE"}},
        {"openmpi", read_openmpi, "OMPI_COMM_WORLD_RANK", {"OMPI_COMM_WORLD_SIZE"}},
        {"slurm", read_slurm, "SLURM_PROCID", {"SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"}},
        {"mlx", read_mlx, "MLX_RANK", {"MLX_IBV_DEVICES", "MLX_HOSTFILE", "MLX_WORLD_SIZE"}},
};

/* A rank without a number of ranks does not come from a launcher: the variable was set by hand, or is a leftover. */
static bool is_stray(const struct reader *r, const struct launcher *l)
{
	bool sized = false;

	for (size_t i = 0; i < 3 && l->size[i]; i++)
		sized = sized || value_of(r, l->size[i]);
	return l->rank && value_of(r, l->rank) && !sized;
}

/* No launcher was found. Rank 0 of unknown many is a program that runs alone; another rank is not. */
static int alone_but_for(const struct reader *r, const struct launcher *stray)
{
	const char *rank = value_of(r, stray->rank);

	if (strcmp(rank, "0") != 0)
		return fail(TUTTI_EINVAL,
		            "%s=%.64s means that there are other ranks, but %s, which %s sets, is not set", stray->rank,
		            rank, stray->size[0], stray->name);
	log_warn("%s=0 is set, but %s is not: ignoring the variable, this is the only rank", stray->rank,
	         stray->size[0]);
	return TUTTI_OK;
}

static int find_launcher(struct reader *r)
{
	const struct launcher *stray = NULL;
	bool found = false;

	for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
		int rc;

		if (is_stray(r, &launchers[i])) {
			stray = stray ? stray : &launchers[i];
			continue;
		}
		r->launcher = launchers[i].name;
		rc = launchers[i].read(r, &found);
		if (rc != TUTTI_OK)
			return rc;
		if (found) {
			r->out->launcher = r->launcher;
			return TUTTI_OK;
		}
	}
	if (r->p->root)
		return fail(
		        TUTTI_EINVAL,
		        "TUTTI_ROOT=%.100s is set, but this process's rank is unknown: set TUTTI_RANK and TUTTI_SIZE, or use a launcher",
		        r->p->root);
	return stray ? alone_but_for(r, stray) : TUTTI_OK;
}

/* The ports on this host where rank 0 may be. */
static void loopback_root(struct reader *r)
{
	struct rendezvous *root = &r->out->root;

	for (int k = 0; k < NET_ADDRS; k++)
		root->addrs[k] = (struct net_addr){.family = 4, .port = derived_port(r->job, k), .ip = {127, 0, 0, 1}};
	root->naddrs = NET_ADDRS;
	snprintf(root->text, sizeof(root->text), "127.0.0.1:%d, or %d more ports", root->addrs[0].port, NET_ADDRS - 1);
}

static int settle_root(struct reader *r)
{
	const char *given = r->p->root;
	int rc;

	if (given) {
		rc = check_root("TUTTI_ROOT", given);
		if (rc != TUTTI_OK)
			return rc;
		snprintf(r->out->root.text, sizeof(r->out->root.text), "%s", given);
		r->one_host = is_loopback(given);
		return TUTTI_OK;
	}
	if (r->one_host && r->job[0]) {
		loopback_root(r);
		return TUTTI_OK;
	}
	if (r->out->root.text[0])
		return TUTTI_OK;
	return fail(
	        TUTTI_EINVAL,
	        "%s says that this is rank %d of %d, but not where rank 0 is: give all ranks TUTTI_ROOT=host:port, with rank 0's host and a free port",
	        r->launcher, r->out->rank, r->out->size);
}

/* Ranks of another job that has the same secret, or none, must not get in. */
static void bind_key(struct auth_key *key, const char *job)
{
	const void *piece = job;
	size_t len = strlen(job);
	uint8_t bound[AUTH_TAG];

	if (len == 0)
		return;
	auth_tag(bound, key, 1, &piece, &len);
	_Static_assert(AUTH_TAG == AUTH_KEY, "a tag serves as key");
	memcpy(key->bytes, bound, sizeof(bound));
	secret_wipe(bound, sizeof(bound));
}

static int settle_key(struct reader *r)
{
	struct auth_key *key = &r->out->key;
	int rc = TUTTI_OK;

	if (r->p->secret)
		rc = auth_key_from_text(key, r->p->secret);
	else if (r->p->secret_file)
		rc = auth_key_from_file(key, r->p->secret_file);
	else if (r->one_host)
		auth_key_from_text(key, NULL);
	else
		rc = auth_key_from_file(key, NULL);
	if (rc == TUTTI_EAUTH)
		return fail_while(rc, "ranks started by %s may be on several hosts, which requires a secret",
		                  r->launcher);
	if (rc == TUTTI_OK)
		bind_key(key, r->job);
	return rc;
}

int launch_read(struct launch *out, const struct params *p, launch_getenv *get, void *ctx)
{
	struct reader r = {.get = get, .ctx = ctx, .p = p, .out = out};
	int rc;

	*out = (struct launch){.launcher = "alone", .size = 1, .root.listen_fd = -1};
	auth_key_from_text(&out->key, NULL);
	rc = find_launcher(&r);
	if (rc != TUTTI_OK || out->size == 1)
		return rc;
	rc = settle_root(&r);
	return rc == TUTTI_OK ? settle_key(&r) : rc;
}
