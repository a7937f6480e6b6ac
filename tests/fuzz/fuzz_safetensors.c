/* SPDX-License-Identifier: MIT */
/*
 * Headers of safetensors files: an input is a whole file. It is refused with its name and a reason, or each of its tensors
 * lies within it and has as many bytes as its shape says.
 */
#include <stdlib.h>
#include <string.h>

#include "../../perf/transformer/safetensors.h"

static void must(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct problem p = {0};
	struct header h;
	uint64_t at = 0;

	if (header_parse(&h, data, size, size, "file", &p) != 0) {
		must(strncmp(p.text, "file: ", 6) == 0 && !h.json && !h.tensor);
		return 0;
	}
	must(!p.text[0]);
	for (size_t i = 0; i < h.n; i++) {
		const struct tensor *t = &h.tensor[i];
		uint64_t bytes = t->end - t->begin;

		must(t->begin == at && t->begin <= t->end && t->end <= size && t->dims <= TENSOR_DIMS &&
		     t->name[0] + 1);
		for (int k = 0; k < t->dims && bytes && t->element; k++) {
			must(t->shape[k] > 0 && bytes % t->shape[k] == 0);
			bytes /= t->shape[k];
		}
		must(!bytes || !t->element || bytes == t->element);
		at = t->end;
	}
	header_free(&h);
	return 0;
}
