/* SPDX-License-Identifier: MIT */
/* Fuzzes the texts that people write: host:port, and lists of interfaces against a made-up machine. */
#include <stdlib.h>
#include <string.h>

#include "../../src/util/error.h"
#include "../../src/util/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct net_iface machine[] = {
        {.name = "lo", .addr = {.family = 4, .ip = {127, 0, 0, 1}}, .prefix = 8},
        {.name = "lo", .addr = {.family = 6, .ip = {[15] = 1}}, .prefix = 128},
        {.name = "docker0", .addr = {.family = 4, .ip = {172, 17, 0, 1}}, .prefix = 16},
        {.name = "eth0", .addr = {.family = 4, .ip = {10, 1, 2, 3}}, .prefix = 24},
        {.name = "eth0", .addr = {.family = 6, .ip = {0xfd, [15] = 7}}, .prefix = 64},
        {.name = "ib0", .addr = {.family = 6, .ip = {0xfe, 0x80, [15] = 7}}, .prefix = 64},
};
#define MACHINE (int)(sizeof(machine) / sizeof(machine[0]))

static void choose(const char *spec)
{
	struct net_addr out[MACHINE];
	int n = -1, rc = net_choose(machine, MACHINE, spec, false, out, MACHINE, &n);

	if (n < 0 || n > MACHINE || (rc != TUTTI_OK && rc != TUTTI_EINVAL) || (rc == TUTTI_EINVAL && !fail_text()[0]))
		abort();
	for (int i = 0; i < n; i++) {
		char text[NET_TEXT];
		net_text(&out[i], text);
		for (int k = 0; k < i; k++)
			if (memcmp(&out[i], &out[k], sizeof(out[i])) == 0)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), host[NET_HOST];
	uint16_t port;

	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	if (net_split(text, host, &port) == TUTTI_OK && (port == 0 || !host[0] || !strstr(text, host)))
		abort();
	choose(text);
	free(text);
	return 0;
}
