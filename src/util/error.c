/* SPDX-License-Identifier: MIT */
/*
 * Errors: one status and one message per thread, and the table of statuses. A message is complete when it leaves the
 * function that failed; callers add context in front with fail_while and return the status unchanged.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../os/os.h"
#include "printable.h"

#define TEXT_MAX 1024

static _Thread_local char text[TEXT_MAX];

static const struct {
	int status;
	const char *meaning;
} statuses[] = {
        {TUTTI_OK, "OK"},
        {TUTTI_EINVAL, "EINVAL: invalid argument; the call had no effect"},
        {TUTTI_EUSAGE, "EUSAGE: a call that is not allowed here"},
        {TUTTI_ENOMEM, "ENOMEM: out of memory or shared memory"},
        {TUTTI_ESYSTEM, "ESYSTEM: a system call failed"},
        {TUTTI_ETIMEOUT, "ETIMEOUT: a deadline passed"},
        {TUTTI_EPEER, "EPEER: a rank died or is unreachable"},
        {TUTTI_EMISMATCH, "EMISMATCH: ranks made different calls"},
        {TUTTI_EABORTED, "EABORTED: the communicator was aborted"},
        {TUTTI_EAUTH, "EAUTH: a secret is missing or wrong"},
        {TUTTI_EUNSUPPORTED, "EUNSUPPORTED: not supported by this build or machine"},
};

const char *tutti_strerror(int status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].status == status)
			return statuses[i].meaning;
	return "unknown status";
}

/*
 * The arguments may point into the thread's message, so it is replaced only when the new text is complete. They may
 * also come from other processes.
 */
static void __attribute__((format(printf, 1, 0))) set_text(const char *fmt, va_list ap)
{
	char fresh[TEXT_MAX];

	vsnprintf(fresh, sizeof(fresh), fmt, ap);
	printable(text, sizeof(text), fresh);
}

static void append(const char *more)
{
	size_t used = strlen(text);

	snprintf(text + used, sizeof(text) - used, "%s", more);
}

int fail(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_text(fmt, ap);
	va_end(ap);
	return status;
}

static const char *advice(int err)
{
	switch (err) {
	case EMFILE:
		return " (raise the limit of open files: ulimit -n)";
	case ENFILE:
		return " (raise the system's limit of open files: sysctl fs.file-max)";
	case ENOMEM:
		return " (free memory, or raise the container's memory limit)";
	case ENOSPC:
		return " (the file system is full; for shared memory, enlarge /dev/shm)";
	case EAGAIN:
		return " (raise the limit of threads and processes: ulimit -u)";
	default:
		return "";
	}
}

int fail_errno(const char *fmt, ...)
{
	int err = errno;
	char why[128];
	va_list ap;

	va_start(ap, fmt);
	set_text(fmt, ap);
	va_end(ap);
	append(": ");
	append(os_error_text(err, why, sizeof(why)));
	append(advice(err));
	return err == ENOMEM ? TUTTI_ENOMEM : TUTTI_ESYSTEM;
}

int fail_while(int status, const char *fmt, ...)
{
	char old[TEXT_MAX];
	va_list ap;

	memcpy(old, text, sizeof(old));
	va_start(ap, fmt);
	set_text(fmt, ap);
	va_end(ap);
	append(": ");
	append(old);
	return status;
}

const char *fail_text(void)
{
	return text;
}
