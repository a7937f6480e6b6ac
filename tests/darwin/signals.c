/* SPDX-License-Identifier: MIT */
/*
 * Signals of the imaginary Darwin. EVFILT_SIGNAL tells of a signal and leaves it pending; the signalfd under it takes it. So
 * what a queue has told of is remembered here as pending: sigpending shows it, sigwait takes it, ignoring it drops it, and
 * unblocking it delivers it.
 */
#include "imaginary.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool held[_NSIG];

static pid_t owner; /* the process that they came to */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* What is pending is not a child's. */
static void in_child(void)
{
	if (owner == getpid())
		return;
	pthread_mutex_init(&lock, NULL);
	owner = getpid();
	for (int sig = 1; sig < _NSIG; sig++)
		held[sig] = false;
}

static void watch_forks(void)
{
	owner = getpid();
	pthread_atfork(before_fork, after_fork, in_child);
}

static void enter(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	in_child();
	pthread_mutex_lock(&lock);
}

void darwin_signal_told(int sig)
{
	enter();
	held[sig] = true;
	pthread_mutex_unlock(&lock);
}

static bool take(int sig)
{
	bool was;

	enter();
	was = held[sig];
	held[sig] = false;
	pthread_mutex_unlock(&lock);
	return was;
}

int darwin_sigwait(const sigset_t *set, int *sig)
{
	for (*sig = 1; *sig < _NSIG; *sig += 1)
		if (sigismember(set, *sig) == 1 && take(*sig))
			return 0;
	return sigwait(set, sig);
}

int darwin_sigpending(sigset_t *set)
{
	int rc = sigpending(set);

	enter();
	for (int sig = 1; rc == 0 && sig < _NSIG; sig++)
		if (held[sig])
			sigaddset(set, sig);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* What the calling thread does not block any more comes now. */
static void deliver(void)
{
	sigset_t blocked;

	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	for (int sig = 1; sig < _NSIG; sig++)
		if (sigismember(&blocked, sig) == 0 && take(sig))
			raise(sig);
}

int darwin_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int rc = sigprocmask(how, set, old);

	deliver();
	return rc;
}

int darwin_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	int rc = pthread_sigmask(how, set, old);

	deliver();
	return rc;
}

int darwin_sigaction(int sig, const struct sigaction *a, struct sigaction *old)
{
	if (a && !(a->sa_flags & SA_SIGINFO) && a->sa_handler == SIG_IGN && sig > 0 && sig < _NSIG)
		(void)take(sig);
	return sigaction(sig, a, old);
}

void (*darwin_signal(int sig, void (*handler)(int)))(int)
{
	if (handler == SIG_IGN && sig > 0 && sig < _NSIG)
		(void)take(sig);
	return signal(sig, handler);
}
