/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes a door that stands open: the input is said to its local socket in pieces, each as long as its first byte says.
 * The door must hang up, and never let anybody in.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/bootstrap/door.h"
#include "../../src/util/clock.h"
#include "../../src/util/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct contact me;

static void say_nothing(void *ctx, enum tutti_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static void on_entry(void *arg, struct session session, const struct hello *hello)
{
	(void)arg;
	(void)session;
	(void)hello;
	abort();
}

static void open_once(void)
{
	static struct door *door;
	struct door_config cfg = {.rank = 0, .size = 4, .local_only = true};

	if (door)
		return;
	log_set_sink((struct log_sink){.fn = say_nothing});
	auth_key_from_text(&cfg.key, "secret");
	contact_self(&me, 0, 4, "");
	if (door_open(&door, &cfg, &me) != TUTTI_OK)
		abort();
	for (int kind = HELLO_BOOT; kind < HELLO_GIVE; kind++)
		door_serve(door, (enum hello_kind)kind, on_entry, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_limit limit = {.deadline = now_ns() + UINT64_C(15000000000)};
	char answer[64];
	int fd, rc = TUTTI_OK;

	open_once();
	if (net_connect_local(me.local, limit, &fd) != TUTTI_OK)
		abort();
	while (size > 0 && rc == TUTTI_OK) {
		size_t n = data[0] < size - 1 ? data[0] : size - 1;
		rc = net_write(fd, data + 1, n, limit);
		data += 1 + n;
		size -= 1 + n;
	}
	shutdown(fd, SHUT_WR);
	do
		rc = net_read(fd, answer, 1, limit);
	while (rc == TUTTI_OK);
	if (rc != TUTTI_EPEER)
		abort();
	close(fd);
	return 0;
}
