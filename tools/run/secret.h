/* SPDX-License-Identifier: MIT */
/* The secret file, for jobs whose launcher carries no secret of its own. */
#ifndef TUTTI_RUN_SECRET_H
#define TUTTI_RUN_SECRET_H

/** Makes the file with a fresh secret, mode 0600; never replaces one. path NULL: the default. Status and message. */
int secret_make(const char *path);

#endif
