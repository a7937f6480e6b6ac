/* SPDX-License-Identifier: MIT */
/*
 * Log lines. A line is formatted whole and leaves in one write, so that lines of ranks that share a terminal don't
 * mix. Control characters are escaped: part of what is logged was sent by strangers.
 */
#include "log.h"
#include "printable.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1200

static const char *const level_names[] = {
        [TUTTI_LOG_ERROR] = "error",
        [TUTTI_LOG_WARN] = "warn",
        [TUTTI_LOG_INFO] = "info",
        [TUTTI_LOG_DEBUG] = "debug",
};

static _Atomic int threshold = TUTTI_LOG_WARN; /* relaxed: it guards no other memory */
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_sink sink_now;

void log_set_sink(struct log_sink sink)
{
	pthread_mutex_lock(&sink_lock);
	sink_now = sink;
	pthread_mutex_unlock(&sink_lock);
}

void log_set_level(enum tutti_log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum tutti_log_level *out)
{
	for (int i = TUTTI_LOG_ERROR; i <= TUTTI_LOG_DEBUG; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*out = (enum tutti_log_level)i;
			return true;
		}
	}
	return false;
}

static void write_stderr(enum tutti_log_level level, const char *message)
{
	char line[LINE_MAX_BYTES + 32];
	const char *label = level == TUTTI_LOG_WARN ? "warning" : level_names[level];
	int n = snprintf(line, sizeof(line), "tutti: %s: %s\n", label, message);

	/* A log line that can't be written has no better place to be reported. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

void log_line(enum tutti_log_level level, const char *fmt, ...)
{
	char raw[LINE_MAX_BYTES], message[LINE_MAX_BYTES];
	struct log_sink sink;
	va_list ap;

	if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	printable(message, sizeof(message), raw);
	pthread_mutex_lock(&sink_lock);
	sink = sink_now;
	pthread_mutex_unlock(&sink_lock);
	if (sink.fn)
		sink.fn(sink.ctx, level, message);
	else
		write_stderr(level, message);
}
