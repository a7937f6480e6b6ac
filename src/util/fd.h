/* SPDX-License-Identifier: MIT */
/*
 * Descriptors in a process that is the application's. It may have closed 0, 1 or 2, so that the next descriptor gets the
 * number of a standard stream; and it may close all that it does not know, ours included, and get files of its own under
 * their numbers.
 */
#ifndef TUTTI_FD_H
#define TUTTI_FD_H

#include <stdbool.h>
#include <stdio.h>

/**
 * Takes over a descriptor that was just made (-1: does nothing), and returns it, or another number of the same file where it
 * was below 3. Remembers which file it is. -1 on failure: fd is closed then, and errno says why.
 */
int fd_keep(int fd);

/**
 * Is fd, a result of fd_keep, still the file that it was? Files to which the kernel gives no inode of their own can't
 * be distinguished.
 */
bool fd_is_ours(int fd);

/** Closes a result of fd_keep, unless the application has put another file in its place. -1: does nothing. */
void fd_close(int fd);

/**
 * Opens a regular file, as fopen does with "r" or "a"; NULL after fail(). Anything else (a FIFO, a terminal) might keep its
 * reader or writer waiting for ever, and is refused without being opened for long.
 */
FILE *file_open(const char *path, const char *mode);

#endif
