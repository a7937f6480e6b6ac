/* Linux 5.3 and later; see os.h. */
#include "os.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000) /* nanoseconds */

/* ---- sleeping on a word ------------------------------------------------------------------------------------------ */

void os_sleep_on(const void *word, uint32_t value, uint64_t ns, enum os_reach reach)
{
	struct timespec t = {.tv_sec = (time_t)(ns / S), .tv_nsec = (long)(ns % S)};

	(void)syscall(SYS_futex, word, reach == OS_HOST ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, value, &t, NULL, 0);
}

void os_wake(const void *word, enum os_reach reach)
{
	(void)syscall(SYS_futex, word, reach == OS_HOST ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

long os_preemptions(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}
