/* SPDX-License-Identifier: MIT */
// The same from C++: the header is plain C, its enums and structs are used as they are.
#include <cstdint>
#include <cstdio>
#include <tutti.h>
#include <vector>

int main()
{
	tutti_config cfg = TUTTI_CONFIG_INIT;
	cfg.progress = TUTTI_PROGRESS_THREAD;
	tutti_comm *comm = nullptr;
	if (tutti_comm_from_env(&comm, &cfg) != TUTTI_OK) {
		std::fprintf(stderr, "%s\n", tutti_last_error(nullptr));
		return 1;
	}
	const int n = tutti_comm_size(comm), rank = tutti_comm_rank(comm);
	std::vector<std::int32_t> all(static_cast<std::size_t>(n), -1), mine(1, rank);
	tutti_request *req = nullptr;
	int rc = tutti_allgather(mine.data(), all.data(), 1, TUTTI_I32, comm, &req);
	if (!rc)
		rc = tutti_wait(&req);
	for (int i = 0; i < n; i++)
		rc |= all[static_cast<std::size_t>(i)] != i;
	tutti_comm_destroy(comm);
	return rc || n < 2;
}
