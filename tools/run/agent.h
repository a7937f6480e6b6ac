/* SPDX-License-Identifier: MIT */
/* The agent: on each host, the parent of that host's ranks. See wire.h for what it says and hears. */
#ifndef TUTTI_RUN_AGENT_H
#define TUTTI_RUN_AGENT_H

/** Serves the head on stdin and stdout until all ranks ended or the head is gone. Returns the exit status. */
int agent_main(void);

#endif
