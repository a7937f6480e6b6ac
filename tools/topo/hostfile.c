/* SPDX-License-Identifier: MIT */
/* Host files: for tutti-run, and for mlx.launch. See advice.h. */
#include "../../src/util/error.h"
#include "advice.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int ranks_on(const struct survey *s, int host)
{
	int n = 0;
	for (int r = 0; r < s->n; r++)
		n += s->rank[r].host == host;
	return n;
}

/* Hosts as the ring first comes to them. */
static int *order_hosts(const struct survey *s)
{
	int *order = calloc((size_t)s->nhosts, sizeof(*order)), n = 0;
	for (int i = 0; order && i < s->n; i++) {
		int host = s->rank[s->ring ? s->ring[i] : i].host, k = 0;
		while (k < n && order[k] != host)
			k++;
		if (k == n)
			order[n++] = host;
	}
	return order;
}

static void write_plain(FILE *f, const struct survey *s, const int *order)
{
	fputs("# hosts as a ring should come to them, by tutti-topo\n", f);
	for (int i = 0; i < s->nhosts; i++)
		fprintf(f, "%s slots=%d\n", survey_host(s, order[i]), ranks_on(s, order[i]));
}

static json_t *addresses(const struct machine *m)
{
	json_t *ips = json_array();
	for (uint32_t i = 0; i < m->ndevices; i++)
		if (m->device[i].state != MACHINE_DOWN && m->device[i].ip[0])
			json_array_append_new(ips, json_string(m->device[i].ip));
	return ips;
}

/* An entry is a rank there, so a host that has several is named as often. */
static int write_mlx(FILE *f, const struct survey *s, const int *order)
{
	json_t *list = json_array();
	for (int i = 0; i < s->nhosts; i++)
		for (int k = ranks_on(s, order[i]); k > 0; k--)
			json_array_append_new(list, json_pack("{s:s, s:o}", "ssh", survey_host(s, order[i]), "ips",
			                                      addresses(s->machine[order[i]])));
	int rc = list && json_dumpf(list, f, JSON_INDENT(1)) == 0 && fputc('\n', f) != EOF
	                 ? TUTTI_OK
	                 : fail(TUTTI_ENOMEM, "can't write the host file");
	json_decref(list);
	return rc;
}

static int check_names(const struct survey *s)
{
	for (int h = 0; h < s->nhosts; h++)
		for (int g = 0; g <= h; g++)
			if (!s->machine[h]->name[0] || (g < h && strcmp(s->machine[g]->name, s->machine[h]->name) == 0))
				return fail(TUTTI_EINVAL,
				            "--hostfile: host %d has %s: a host file needs one name for each", h,
				            s->machine[h]->name[0] ? "the name of another host" : "no name");
	return TUTTI_OK;
}

int hostfile_write(const struct survey *s, enum hostfile_format format, const char *path)
{
	bool out = strcmp(path, "-") == 0;
	int rc = check_names(s);
	if (rc)
		return rc;
	int *order = order_hosts(s);
	FILE *f = !order ? NULL : out ? stdout : fopen(path, "we");
	if (!f) {
		rc = order ? fail_errno("can't write %s", path) : fail(TUTTI_ENOMEM, "out of memory");
		free(order);
		return rc;
	}
	if (format == HOSTFILE_MLX)
		rc = write_mlx(f, s, order);
	else
		write_plain(f, s, order);
	if (fflush(f) != 0 && !rc)
		rc = fail_errno("can't write %s", path);
	if (!out)
		fclose(f);
	free(order);
	return rc;
}
