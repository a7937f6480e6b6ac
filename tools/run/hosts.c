/* SPDX-License-Identifier: MIT */
/* Hosts and their formats; see hosts.h. */
#include "hosts.h"
#include "../../src/util/error.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_LEN_MAX 255
#define HOSTS_MAX    4096
#define QUOTED_MAX   80 /* of a user's text, in messages */

/* A stretch of somebody's text. */
struct span {
	const char *at;
	size_t len;
};

static int shown(struct span s)
{
	return s.len > QUOTED_MAX ? QUOTED_MAX : (int)s.len;
}

static struct span trim(struct span s)
{
	while (s.len && isspace((unsigned char)s.at[0])) {
		s.at++;
		s.len--;
	}
	while (s.len && isspace((unsigned char)s.at[s.len - 1]))
		s.len--;
	return s;
}

/* What may follow `ssh`: never an option, never anything that a shell would take apart. */
static bool is_name(struct span s)
{
	if (s.len == 0 || s.len > NAME_LEN_MAX || s.at[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!isalnum((unsigned char)s.at[i]) && !memchr("._-@:%", s.at[i], 6))
			return false;
	return true;
}

static bool parse_slots(struct span s, int *slots)
{
	int n = 0;

	if (s.len == 0 || s.len > 4)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!isdigit((unsigned char)s.at[i]))
			return false;
		n = n * 10 + (s.at[i] - '0');
	}
	*slots = n;
	return n >= 1 && n <= HOST_SLOTS_MAX;
}

static int no_memory(void)
{
	return fail(TUTTI_ENOMEM, "out of memory while reading hosts");
}

static struct host *find(const struct hosts *hosts, struct span name)
{
	for (int i = 0; i < hosts->n; i++)
		if (strlen(hosts->host[i].name) == name.len && memcmp(hosts->host[i].name, name.at, name.len) == 0)
			return &hosts->host[i];
	return NULL;
}

static int add_host(struct hosts *hosts, struct span name, const char *address)
{
	struct host *grown, new = {.slots = 0};

	if (hosts->n == HOSTS_MAX)
		return fail(TUTTI_EINVAL, "more than %d hosts", HOSTS_MAX);
	grown = realloc(hosts->host, (size_t)(hosts->n + 1) * sizeof(*grown));
	if (!grown)
		return no_memory();
	hosts->host = grown;
	new.name = strndup(name.at, name.len);
	new.address = address ? strdup(address) : NULL;
	if (!new.name || (address && !new.address)) {
		free(new.name);
		free(new.address);
		return no_memory();
	}
	hosts->host[hosts->n++] = new;
	return TUTTI_OK;
}

static struct stretch *first_stretch(const struct hosts *hosts, int host)
{
	for (int i = 0; i < hosts->nstretches; i++)
		if (hosts->order[i].host == host)
			return &hosts->order[i];
	return NULL;
}

static int add_slots(struct hosts *hosts, int host, int slots, bool in_turn)
{
	struct stretch *grown, *first = in_turn ? NULL : first_stretch(hosts, host);

	if (slots > HOST_SLOTS_MAX - hosts->host[host].slots)
		return fail(TUTTI_EINVAL, "host %s: more than %d slots", hosts->host[host].name, HOST_SLOTS_MAX);
	hosts->host[host].slots += slots;
	if (first) {
		first->slots += slots;
		return TUTTI_OK;
	}
	grown = realloc(hosts->order, (size_t)(hosts->nstretches + 1) * sizeof(*grown));
	if (!grown)
		return no_memory();
	hosts->order = grown;
	grown[hosts->nstretches++] = (struct stretch){host, slots};
	return TUTTI_OK;
}

/* in_turn: the slots of a host that is there already come after those of the hosts named since, else with its first ones. */
static int add(struct hosts *hosts, struct span name, int slots, const char *address, bool in_turn)
{
	struct host *old = find(hosts, name);
	int at = old ? (int)(old - hosts->host) : hosts->n, rc = old ? TUTTI_OK : add_host(hosts, name, address);

	return rc == TUTTI_OK ? add_slots(hosts, at, slots, in_turn) : rc;
}

/* "a:2222" would start thousands of ranks for a user who meant ssh's port. */
static int check_slots(struct span item, struct span count, bool colon, int *slots)
{
	if (!colon || !parse_slots(count, slots))
		return fail(TUTTI_EINVAL, "'%.*s': expected host:slots with 1 to %d slots; set a port in ~/.ssh/config",
		            shown(item), item.at, PORT_LIKE - 1);
	if (*slots >= PORT_LIKE)
		return fail(
		        TUTTI_EINVAL,
		        "'%.*s': is %d a port? The number after the colon is the number of slots. Set a port with --rsh 'ssh -p %d' or in ~/.ssh/config; if you mean slots, write 'slots=%d' in a host file",
		        shown(item), item.at, *slots, *slots, *slots);
	return TUTTI_OK;
}

/* host, host:slots, [v6], [v6]:slots; slots is 0 unless they were given apart. */
static int add_item(struct hosts *hosts, struct span item, int slots)
{
	struct span name = item, count;
	const char *end;
	int rc;

	if (item.len && item.at[0] == '[') {
		end = memchr(item.at, ']', item.len);
		if (!end)
			return fail(TUTTI_EINVAL, "'%.*s': the ] is missing", shown(item), item.at);
		name = (struct span){item.at + 1, (size_t)(end - item.at - 1)};
		end++;
	} else {
		end = memchr(item.at, ':', item.len);
		if (!end)
			end = item.at + item.len;
		name.len = (size_t)(end - item.at);
	}
	if (end < item.at + item.len) {
		if (slots)
			return fail(TUTTI_EINVAL, "'%.*s': give the slots once", shown(item), item.at);
		count = (struct span){end + 1, (size_t)(item.at + item.len - end - 1)};
		if (*end == ':' && item.at[0] != '[' && memchr(count.at, ':', count.len))
			return fail(TUTTI_EINVAL, "'%.*s': write an IPv6 address in brackets: [::1]:2", shown(item),
			            item.at);
		rc = check_slots(item, count, *end == ':', &slots);
		if (rc != TUTTI_OK)
			return rc;
	}
	if (!is_name(name))
		return fail(TUTTI_EINVAL, "'%.*s' is not a host name", shown(item), item.at);
	return add(hosts, name, slots ? slots : 1, NULL, false);
}

int hosts_add_list(struct hosts *hosts, const char *text)
{
	for (const char *s = text;;) {
		size_t len = strcspn(s, ",");
		int rc = add_item(hosts, trim((struct span){s, len}), 0);
		if (rc != TUTTI_OK)
			return rc;
		if (!s[len])
			return TUTTI_OK;
		s += len + 1;
	}
}

/* ---- plain files ------------------------------------------------------------------------------------------------- */

static int add_line(struct hosts *hosts, struct span line)
{
	static const char keyword[] = "slots=";
	const size_t klen = sizeof(keyword) - 1;
	const char *comment = memchr(line.at, '#', line.len);
	struct span name, rest;
	int slots = 0;

	if (comment)
		line.len = (size_t)(comment - line.at);
	line = trim(line);
	if (line.len == 0)
		return TUTTI_OK;
	name = (struct span){line.at, 0};
	while (name.len < line.len && !isspace((unsigned char)line.at[name.len]))
		name.len++;
	rest = trim((struct span){line.at + name.len, line.len - name.len});
	if (rest.len && (rest.len < klen || memcmp(rest.at, keyword, klen) != 0 ||
	                 !parse_slots((struct span){rest.at + klen, rest.len - klen}, &slots)))
		return fail(TUTTI_EINVAL, "'%.*s': expected slots=N with 1 to %d slots", shown(rest), rest.at,
		            HOST_SLOTS_MAX);
	return add_item(hosts, name, slots);
}

static int add_plain(struct hosts *hosts, const char *name, const char *text, size_t len)
{
	const char *end = text + len;
	int number = 1;

	for (const char *s = text; s < end; number++) {
		const char *newline = memchr(s, '\n', (size_t)(end - s));
		const char *stop = newline ? newline : end;
		int rc = add_line(hosts, (struct span){s, (size_t)(stop - s)});
		if (rc != TUTTI_OK)
			return fail_while(rc, "%s:%d", name, number);
		s = stop + 1;
	}
	return TUTTI_OK;
}

/* ---- JSON files -------------------------------------------------------------------------------------------------- */

static struct span span_of(const json_t *string)
{
	return (struct span){json_string_value(string), json_string_length(string)};
}

static int add_json_host(struct hosts *hosts, const json_t *entry)
{
	const json_t *ssh = json_is_string(entry) ? entry : json_object_get(entry, "ssh");
	const json_t *ips = json_object_get(entry, "ips"), *slots = json_object_get(entry, "slots");
	const json_t *address = json_array_get(ips, 0);

	if (!json_is_string(ssh) || !is_name(span_of(ssh)))
		return fail(TUTTI_EINVAL, "expected {\"ssh\": \"host name\", ...}");
	if (ips && (!json_is_array(ips) || (address && (!json_is_string(address) || !is_name(span_of(address))))))
		return fail(TUTTI_EINVAL, "\"ips\" must be a list of addresses");
	if (slots &&
	    (!json_is_integer(slots) || json_integer_value(slots) < 1 || json_integer_value(slots) > HOST_SLOTS_MAX))
		return fail(TUTTI_EINVAL, "\"slots\" must be a number from 1 to %d", HOST_SLOTS_MAX);
	return add(hosts, span_of(ssh), slots ? (int)json_integer_value(slots) : 1, json_string_value(address), true);
}

static int add_json_env(struct hosts *hosts, const json_t *entry)
{
	const char *text = json_string_value(entry);
	char **grown, *copy;

	if (!text || !strchr(text, '=') || text[0] == '=' || strlen(text) != json_string_length(entry))
		return fail(TUTTI_EINVAL, "\"envs\" must be a list of \"NAME=VALUE\"");
	grown = realloc(hosts->env, (size_t)(hosts->nenv + 1) * sizeof(*grown));
	if (!grown)
		return no_memory();
	hosts->env = grown;
	copy = strdup(text);
	if (!copy)
		return no_memory();
	hosts->env[hosts->nenv++] = copy;
	return TUTTI_OK;
}

static int add_json_root(struct hosts *hosts, const json_t *root)
{
	const json_t *list = json_is_array(root) ? root : json_object_get(root, "hosts");
	const json_t *envs = json_object_get(root, "envs"), *entry;
	size_t i;
	int rc;

	if (!json_is_array(list))
		return fail(TUTTI_EINVAL, "expected a list of hosts, or {\"hosts\": [...]}");
	if (envs && !json_is_array(envs))
		return fail(TUTTI_EINVAL, "\"envs\" must be a list of \"NAME=VALUE\"");
	json_array_foreach (list, i, entry) {
		rc = add_json_host(hosts, entry);
		if (rc != TUTTI_OK)
			return fail_while(rc, "hosts[%zu]", i);
	}
	json_array_foreach (envs, i, entry) {
		rc = add_json_env(hosts, entry);
		if (rc != TUTTI_OK)
			return rc;
	}
	return TUTTI_OK;
}

static int add_json(struct hosts *hosts, const char *name, const char *text, size_t len)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (!root)
		return fail(TUTTI_EINVAL, "%s:%d: %s", name, error.line, error.text);
	rc = add_json_root(hosts, root);
	json_decref(root);
	return rc == TUTTI_OK ? rc : fail_while(rc, "%s", name);
}

/* A plain file may begin with [::1]; a list of hosts goes on with an object, a string or its end. */
static bool is_json(struct span s)
{
	struct span inner;

	if (s.len < 2 || (s.at[0] != '{' && s.at[0] != '['))
		return false;
	inner = trim((struct span){s.at + 1, s.len - 1});
	return s.at[0] == '{' || (inner.len && memchr("{\"]", inner.at[0], 3));
}

int hosts_add_file(struct hosts *hosts, const char *name, const char *text, size_t len)
{
	struct span content = trim((struct span){text, len});
	int before = hosts_slots(hosts), rc;

	if (is_json(content))
		rc = add_json(hosts, name, text, len);
	else
		rc = add_plain(hosts, name, text, len);
	if (rc == TUTTI_OK && hosts_slots(hosts) == before)
		rc = fail(TUTTI_EINVAL, "%s: the file lists no hosts", name);
	return rc;
}

/* ---- use --------------------------------------------------------------------------------------------------------- */

void hosts_free(struct hosts *hosts)
{
	for (int i = 0; i < hosts->n; i++) {
		free(hosts->host[i].name);
		free(hosts->host[i].address);
	}
	for (int i = 0; i < hosts->nenv; i++)
		free(hosts->env[i]);
	free(hosts->host);
	free(hosts->order);
	free(hosts->env);
	memset(hosts, 0, sizeof(*hosts));
}

int hosts_slots(const struct hosts *hosts)
{
	int total = 0;

	for (int i = 0; i < hosts->n; i++)
		total += hosts->host[i].slots;
	return total;
}

int hosts_place(const struct hosts *hosts, int n, int *host_of)
{
	const struct host *last = &hosts->host[hosts->n - 1];
	int placed = 0;

	for (int i = 0; i < hosts->nstretches; i++)
		for (int k = 0; k < hosts->order[i].slots && placed < n; k++)
			host_of[placed++] = hosts->order[i].host;
	if (placed < n)
		return fail(TUTTI_EINVAL, "%d ranks, but the hosts have %d slots: give more slots, for example %s:%d",
		            n, placed, last->name, last->slots + n - placed);
	return TUTTI_OK;
}

bool host_is_here(const char *name)
{
	char self[NAME_LEN_MAX + 1] = "";
	size_t label;

	if (strcmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0)
		return true;
	if (gethostname(self, sizeof(self) - 1) < 0 || !self[0])
		return false;
	label = strcspn(self, ".");
	return strcmp(name, self) == 0 || (strlen(name) == label && memcmp(name, self, label) == 0);
}
