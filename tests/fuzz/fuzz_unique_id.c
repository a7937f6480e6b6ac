/* SPDX-License-Identifier: MIT */
/* Fuzzes unique ids, with the checksum put right so that what it covers is looked at. */
#include <stdlib.h>
#include <string.h>

#include "../../src/bootstrap/bootstrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As unique_id.c's: FNV-1a over all but the last 8 bytes. */
static void put_checksum(struct tutti_unique_id *id)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < sizeof(*id) - sizeof(h); i++)
		h = (h ^ (uint8_t)id->bytes[i]) * 0x100000001b3u;
	memcpy(id->bytes + sizeof(*id) - sizeof(h), &h, sizeof(h));
}

static bool is_sound(const struct rendezvous *root)
{
	if (root->naddrs < 1 || root->naddrs > NET_ADDRS || !memchr(root->text, '\0', sizeof(root->text)))
		return false;
	for (int i = 0; i < root->naddrs; i++)
		if ((root->addrs[i].family != 4 && root->addrs[i].family != 6) || root->addrs[i].port == 0)
			return false;
	return root->listen_fd == -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tutti_unique_id id = {{0}};
	struct rendezvous root;
	struct auth_key key;

	if (size)
		memcpy(id.bytes, data, size < sizeof(id) ? size : sizeof(id));
	for (int right = 0; right < 2; right++) {
		if (right)
			put_checksum(&id);
		if (unique_id_read(&id, 1, &root, &key) == TUTTI_OK && (!is_sound(&root) || key.open))
			abort();
	}
	return 0;
}
