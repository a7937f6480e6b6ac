/* SPDX-License-Identifier: MIT */
/* Making the secret file; see secret.h. */
#include "secret.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folders above path, private like the file. */
static int make_folders(const char *path)
{
	char folder[PATH_MAX];

	for (const char *s = strchr(path + 1, '/'); s; s = strchr(s + 1, '/')) {
		snprintf(folder, sizeof(folder), "%.*s", (int)(s - path), path);
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return fail_errno("can't create the directory %s", folder);
	}
	return TUTTI_OK;
}

int secret_make(const char *path)
{
	char standard[PATH_MAX], text[2 * AUTH_KEY + 2];
	unsigned char key[AUTH_KEY];
	int fd, rc = auth_init();

	if (rc != TUTTI_OK)
		return rc;
	if (!path && !auth_default_path(standard, sizeof(standard)))
		return fail(TUTTI_EINVAL, "HOME is not set, so set TUTTI_SECRET_FILE=/path/to/secret");
	if (!path)
		path = standard;
	rc = make_folders(path);
	if (rc != TUTTI_OK)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return fail(TUTTI_EINVAL, "%s already exists: remove it first if you want a new secret", path);
	if (fd < 0)
		return fail_errno("can't make %s", path);
	auth_random(key, sizeof(key));
	for (int i = 0; i < AUTH_KEY; i++)
		snprintf(text + 2 * i, 3, "%02x", key[i]);
	strcat(text, "\n");
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0) {
		rc = fail_errno("can't write %s", path);
		unlink(path);
	}
	close(fd);
	if (rc == TUTTI_OK)
		printf("%s\n", path);
	return rc;
}
