/* SPDX-License-Identifier: MIT */
/*
 * Texts that other processes had a hand in: names of hosts and devices, reasons, what was wrong over there. On a terminal a
 * control character in them would do what it likes. So every error text, alarm and log line goes through here, and what
 * programs print of other ranks.
 */
#ifndef TUTTI_PRINTABLE_H
#define TUTTI_PRINTABLE_H

#include <stddef.h>

/**
 * Copies a text with each byte of a control character (C0, DEL, C1), and each that is not UTF-8, as \xNN; as much as
 * fits, and a NUL. Printable text stays unchanged. No overlap. Returns `to`.
 */
char *printable(char *to, size_t cap, const char *text);

/**
 * Bytes of the character at `text`, including control characters and NUL; 0: not UTF-8. Reads no further than a NUL.
 */
size_t utf8_bytes(const char *text);

#endif
