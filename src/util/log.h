/* SPDX-License-Identifier: MIT */
/* Log lines: to the caller's callback, or to stderr at the level of TUTTI_LOG (default: warn). Nothing is printed unasked below that. */
#ifndef TUTTI_LOG_H
#define TUTTI_LOG_H

#include "tutti.h"

#include <stdbool.h>

struct log_sink {
	void (*fn)(void *ctx, enum tutti_log_level level, const char *line);
	void *ctx;
};

/** The process-wide sink (last set wins); NULL fn: stderr. */
void log_set_sink(struct log_sink sink);
/** Level from TUTTI_LOG: error, warn, info, debug. */
void log_set_level(enum tutti_log_level level);
bool log_level_parse(const char *name, enum tutti_log_level *out);
void log_line(enum tutti_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_warn(...)  log_line(TUTTI_LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(TUTTI_LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(TUTTI_LOG_DEBUG, __VA_ARGS__)

#endif
