/* SPDX-License-Identifier: MIT */
/* The utilities: messages, log lines, the table of variables, the proof of the secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* ours is a function of util/error.h */

#include "../../src/os/os.h"
#include "../../src/util/auth.h"
#include "../../src/util/error.h"
#include "../../src/util/log.h"
#include "../../src/util/param.h"
#include "../../src/util/printable.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define assert_contains(text, part) assert_non_null(strstr(text, part))

extern char **environ;

/* ---- a sink that keeps what it gets ------------------------------------------------------------------------------ */

static char logged[4096];
static int lines;

static void keep(void *ctx, enum tutti_log_level level, const char *line)
{
	size_t used = strlen(logged);

	(void)ctx;
	(void)level;
	lines++;
	snprintf(logged + used, sizeof(logged) - used, "%s\n", line);
}

/* Every test starts without TUTTI_ variables, with an empty sink at the default level. */
static int fresh(void **state)
{
	char name[256];

	(void)state;
	for (char **e = environ; *e;) {
		if (strncmp(*e, "TUTTI_", 6) != 0) {
			e++;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
		unsetenv(name);
		e = environ;
	}
	logged[0] = '\0';
	lines = 0;
	log_set_sink((struct log_sink){.fn = keep});
	log_set_level(TUTTI_LOG_WARN);
	return 0;
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static void statuses_have_distinct_texts(void **state)
{
	(void)state;
	for (int a = TUTTI_OK; a <= TUTTI_EUNSUPPORTED; a++) {
		assert_string_not_equal(tutti_strerror(a), tutti_strerror(-1));
		for (int b = TUTTI_OK; b < a; b++)
			assert_string_not_equal(tutti_strerror(a), tutti_strerror(b));
	}
	assert_string_equal(tutti_strerror(TUTTI_STATUS_MAX_), tutti_strerror(-1));
}

static void messages_replace_and_stack(void **state)
{
	(void)state;
	assert_int_equal(fail(TUTTI_EINVAL, "rank %d", 7), TUTTI_EINVAL);
	assert_string_equal(fail_text(), "rank 7");
	assert_int_equal(fail_while(TUTTI_EINVAL, "in %s", "start-up"), TUTTI_EINVAL);
	assert_string_equal(fail_text(), "in start-up: rank 7");
	assert_int_equal(fail(TUTTI_EPEER, "again: %s", fail_text()), TUTTI_EPEER);
	assert_string_equal(fail_text(), "again: in start-up: rank 7");
}

static void long_messages_are_cut(void **state)
{
	char big[8192];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	fail(TUTTI_EINVAL, "%s", big);
	assert_true(strlen(fail_text()) >= 512 && strlen(fail_text()) < sizeof(big) - 1);
	fail_while(TUTTI_EINVAL, "head");
	assert_memory_equal(fail_text(), "head: xxx", 9);
}

static void errno_gives_text_and_advice(void **state)
{
	(void)state;
	errno = ENOENT;
	assert_int_equal(fail_errno("can't open %s", "/x"), TUTTI_ESYSTEM);
	assert_string_equal(fail_text(), "can't open /x: No such file or directory");
	errno = EMFILE;
	assert_int_equal(fail_errno("can't open %s", "/x"), TUTTI_ESYSTEM);
	assert_contains(fail_text(), "ulimit -n");
	errno = ENOMEM;
	assert_int_equal(fail_errno("can't map"), TUTTI_ENOMEM);
}

static void *fail_elsewhere(void *ctx)
{
	(void)ctx;
	fail(TUTTI_EPEER, "other thread");
	return NULL;
}

static void messages_are_per_thread(void **state)
{
	pthread_t t;

	(void)state;
	fail(TUTTI_EINVAL, "mine");
	assert_int_equal(pthread_create(&t, NULL, fail_elsewhere, NULL), 0);
	pthread_join(t, NULL);
	assert_string_equal(fail_text(), "mine");
}

/* ---- log --------------------------------------------------------------------------------------------------------- */

static void levels_filter(void **state)
{
	enum tutti_log_level level;

	(void)state;
	log_info("quiet");
	log_warn("loud");
	assert_string_equal(logged, "loud\n");
	log_set_level(TUTTI_LOG_DEBUG);
	log_debug("all");
	assert_string_equal(logged, "loud\nall\n");
	assert_true(log_level_parse("info", &level));
	assert_int_equal(level, TUTTI_LOG_INFO);
	assert_false(log_level_parse("warning", &level));
}

static void stderr_lines_are_whole_and_clean(void **state)
{
	char got[256];
	ssize_t n;
	int pipes[2], old;

	(void)state;
	log_set_sink((struct log_sink){.fn = NULL});
	assert_int_equal(os_message_pair(pipes), 0); /* one read returns one write */
	old = dup(STDERR_FILENO);
	dup2(pipes[1], STDERR_FILENO);
	log_warn("from a stranger: %s", "a\n\033[2Jb");
	dup2(old, STDERR_FILENO);
	close(old);
	n = read(pipes[0], got, sizeof(got) - 1);
	close(pipes[0]);
	close(pipes[1]);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "tutti: warning: from a stranger: a\\x0a\\x1b[2Jb\n");
}

static void control_characters_are_escaped(void **state)
{
	static const char *const texts[][2] = {
	        {"", ""},
	        {"plain ~ \\x1b", "plain ~ \\x1b"}, /* once more does not change it */
	        {"\033]0;t\007\r\n\t\x7f", "\\x1b]0;t\\x07\\x0d\\x0a\\x09\\x7f"},
	        {"f\xc3\xbcr \xe2\x82\xac \xf0\x9f\x8e\xb5", "f\xc3\xbcr \xe2\x82\xac \xf0\x9f\x8e\xb5"},
	        {"\xc2\x9b"
	         "2J",
	         "\\xc2\\x9b2J"}, /* C1 */
	        {"\x9b"
	         "2J \xff",
	         "\\x9b2J \\xff"},                                       /* no UTF-8 */
	        {"\xc0\x9b \xe0\x82\x9b", "\\xc0\\x9b \\xe0\\x82\\x9b"}, /* overlong C1 */
	        {"cut \xe2\x82", "cut \\xe2\\x82"},
	};
	char got[64];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_string_equal(printable(got, sizeof(got), texts[i][0]), texts[i][1]);
		(void)fail(TUTTI_EPEER, "%s", texts[i][0]);
		assert_string_equal(fail_text(), texts[i][1]);
	}
	assert_string_equal(printable(got, 8, "ab\033\033"), "ab\\x1b");
	assert_string_equal(printable(got, 1, "ab"), "");
}

/* ---- variables --------------------------------------------------------------------------------------------------- */

static void defaults_hold(void **state)
{
	struct params p;

	(void)state;
	assert_int_equal(params_read(&p), TUTTI_OK);
	assert_int_equal(p.rank, -1);
	assert_int_equal(p.root_fd, -1);
	assert_int_equal(p.size, 0);
	assert_null(p.root);
	assert_int_equal(p.slot, 0);
	assert_true(p.timeout == 600);
	assert_false(p.reproducible);
	assert_string_equal(p.wait, "auto");
	assert_int_equal(lines, 0);
	params_free(&p);
}

static void values_are_read(void **state)
{
	struct params p;

	(void)state;
	setenv("TUTTI_RANK", "3", 1);
	setenv("TUTTI_TRANSPORT", "^shm", 1);
	setenv("TUTTI_SLOT", "128k", 1);
	setenv("TUTTI_TIMEOUT", "2.5", 1);
	setenv("TUTTI_REPRODUCIBLE", "1", 1);
	setenv("TUTTI_WAIT", "", 1); /* empty counts as unset */
	setenv("TUTTI_LOG", "info", 1);
	assert_int_equal(params_read(&p), TUTTI_OK);
	assert_int_equal(p.rank, 3);
	assert_string_equal(p.transport, "^shm");
	assert_int_equal(p.slot, 131072);
	assert_true(p.timeout == 2.5);
	assert_true(p.reproducible);
	assert_string_equal(p.wait, "auto");
	log_info("TUTTI_LOG took effect");
	assert_int_equal(lines, 1);
	params_free(&p);
	params_free(&p); /* twice does no harm */
}

static void numbers_ignore_the_locale(void **state)
{
	struct params p;

	(void)state;
	setlocale(LC_ALL, "de_DE.UTF-8");
	setenv("TUTTI_TIMEOUT", "0.25", 1);
	assert_int_equal(params_read(&p), TUTTI_OK);
	setlocale(LC_ALL, "C");
	assert_true(p.timeout == 0.25);
	params_free(&p);
}

static void malformed_values_are_named(void **state)
{
	static const struct {
		const char *var, *value, *hint;
	} bad[] = {
	        {"TUTTI_RANK", "-2", "from 0"},
	        {"TUTTI_RANK", "-1", "from 0"},
	        {"TUTTI_RANK", "one", "number"},
	        {"TUTTI_RANK", "3000000000", "from 0"},
	        {"TUTTI_SIZE", "0", "from 1"},
	        {"TUTTI_SIZE", "4 ", "number"},
	        {"TUTTI_SLOTS", "1", "power of two"},
	        {"TUTTI_SLOTS", "6", "power of two"},
	        {"TUTTI_SLOT", "64KB", "number"},
	        {"TUTTI_SLOT", "99999999999999999999", "number"},
	        {"TUTTI_SLOT", "9000000000000T", "number"},
	        {"TUTTI_TIMEOUT", "0", "above 0"},
	        {"TUTTI_TIMEOUT", "-1", "above 0"},
	        {"TUTTI_TIMEOUT", "inf", "above 0"},
	        {"TUTTI_TIMEOUT", "nan", "above 0"},
	        {"TUTTI_TIMEOUT", ".", "above 0"},
	        {"TUTTI_TIMEOUT", "1e3", "above 0"},
	        {"TUTTI_REPRODUCIBLE", "yes", "0 or 1"},
	        {"TUTTI_WAIT", "spinning", "auto spin yield sleep"},
	        {"TUTTI_WAIT", "auto spin", "auto spin yield sleep"},
	        {"TUTTI_LOG", "INFO", "error warn info debug"},
	        {"TUTTI_ISA", "avx", "avx2"},
	        {"TUTTI_ALGO", "allreduce:ring\nX=1", "control character"},
	};
	struct params p;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv(bad[i].var, bad[i].value, 1);
		assert_int_equal(params_read(&p), TUTTI_EINVAL);
		assert_contains(fail_text(), bad[i].var);
		assert_contains(fail_text(), bad[i].hint);
		unsetenv(bad[i].var);
	}
}

static void unknown_variables_name_the_nearest(void **state)
{
	struct params p;

	(void)state;
	setenv("TUTTI_TRANSPORTS", "shm", 1);
	setenv("TUTTI_ITERFACE", "eth0", 1);
	assert_int_equal(params_read(&p), TUTTI_OK);
	params_free(&p);
	assert_int_equal(lines, 2);
	assert_contains(logged, "unknown variable TUTTI_TRANSPORTS; did you mean TUTTI_TRANSPORT?");
	assert_contains(logged, "unknown variable TUTTI_ITERFACE; did you mean TUTTI_IFACE?");
	setenv("TUTTI_A_NAME_THAT_IS_LONGER_THAN_ANY_VARIABLE_OF_OURS_WILL_EVER_BE_AND_FAR_FROM_ALL", "", 1);
	assert_int_equal(params_read(&p), TUTTI_OK);
	params_free(&p);
	assert_contains(logged, "EVER_BE_AND_FAR_FROM_ALL (tutti-info");
}

static void rows_are_complete(void **state)
{
	struct param_row row, other;
	int n = 0;

	(void)state;
	for (; param_row(n, &row); n++) {
		assert_int_equal(strncmp(row.variable, "TUTTI_", 6), 0);
		assert_true(row.doc[0] && row.type[0]);
		for (int i = 0; i < n; i++)
			assert_true(param_row(i, &other) && strcmp(other.variable, row.variable) != 0);
	}
	assert_true(n > 10);
	assert_false(param_row(-1, &row));
}

static char *equal_text(void)
{
	struct params p;
	size_t need;
	char *text;

	assert_int_equal(params_read(&p), TUTTI_OK);
	need = params_equal_text(&p, NULL, 0);
	text = malloc(need + 1);
	assert_non_null(text);
	assert_int_equal(params_equal_text(&p, text, need + 1), need);
	assert_int_equal(strlen(text), need);
	params_free(&p);
	return text;
}

static void must_equal_is_compared(void **state)
{
	char name[64], va[128], vb[128], small[8];
	char *a = equal_text(), *b;
	struct params p;

	(void)state;
	setenv("TUTTI_RANK", "1", 1);  /* may differ */
	setenv("TUTTI_SLOTS", "0", 1); /* the default, spelled out */
	b = equal_text();
	assert_false(params_differ(a, b, name, va, vb));
	free(b);
	setenv("TUTTI_SLOTS", "16", 1);
	b = equal_text();
	assert_true(params_differ(a, b, name, va, vb));
	assert_string_equal(name, "TUTTI_SLOTS");
	assert_string_equal(va, "0");
	assert_string_equal(vb, "16");
	free(b);
	free(a);

	assert_true(params_differ("A=1\n", "A=1\nB=2\n", name, va, vb));
	assert_string_equal(name, "B");
	assert_string_equal(va, "(unknown)");
	assert_string_equal(vb, "2");
	assert_true(params_differ("A=1\nB=2\n", "A=1\n", name, va, vb));
	assert_string_equal(vb, "(unknown)");
	assert_false(params_differ("A=\n", "A=\n", name, va, vb));
	assert_true(params_differ("garbage", "", name, va, vb));

	assert_int_equal(params_read(&p), TUTTI_OK);
	assert_true(params_equal_text(&p, small, sizeof(small)) > sizeof(small)); /* cut, the need is told */
	assert_int_equal(strlen(small), sizeof(small) - 1);
	params_free(&p);
}

static void long_values_are_cut_in_the_comparison(void **state)
{
	char name[64], va[128], vb[128], a[512], b[512];

	(void)state;
	snprintf(a, sizeof(a), "%0200d=%0200d\n", 1, 2);
	snprintf(b, sizeof(b), "%0200d=%0200d\n", 1, 3);
	assert_true(params_differ(a, b, name, va, vb));
	assert_int_equal(strlen(name), 63);
	assert_int_equal(strlen(va), 127);
	assert_int_equal(strlen(vb), 127);
}

static void sizes_parse(void **state)
{
	static const char *const bad[] = {"", "K", "-1", "+1", " 1", "1 ", "1KB", "1.5M", "0x10", "8388608T", "1P"};
	int64_t v = 0;

	(void)state;
	assert_true(parse_size("0", &v) && v == 0);
	assert_true(parse_size("64K", &v) && v == 65536);
	assert_true(parse_size("3m", &v) && v == 3 << 20);
	assert_true(parse_size("2G", &v) && v == INT64_C(2) << 30);
	assert_true(parse_size("8388607T", &v) && v == INT64_C(8388607) << 40);
	assert_true(parse_size("9223372036854775807", &v) && v == INT64_MAX);
	assert_false(parse_size("9223372036854775808", &v));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(parse_size(bad[i], &v));
}

/* ---- the secret -------------------------------------------------------------------------------------------------- */

static void tag_of(uint8_t tag[AUTH_TAG], const struct auth_key *key, const char *a, const char *b)
{
	const void *piece[] = {a, b};
	size_t len[] = {strlen(a), strlen(b)};

	auth_tag(tag, key, 2, piece, len);
}

static void tags_depend_on_key_and_pieces(void **state)
{
	struct auth_key key, other, empty;
	uint8_t tag[AUTH_TAG], same[AUTH_TAG];

	(void)state;
	auth_key_from_text(&key, "secret");
	auth_key_from_text(&other, "Secret");
	auth_key_from_text(&empty, "");
	assert_false(key.open);
	assert_true(empty.open);
	tag_of(tag, &key, "ab", "c");
	tag_of(same, &key, "ab", "c");
	assert_true(auth_equal(tag, same));
	tag_of(same, &key, "a", "bc"); /* the same bytes, cut elsewhere */
	assert_false(auth_equal(tag, same));
	tag_of(same, &other, "ab", "c");
	assert_false(auth_equal(tag, same));
	tag_of(same, &key, "ab", "d");
	assert_false(auth_equal(tag, same));
	auth_key_from_text(&other, NULL);
	assert_true(other.open);
	assert_memory_equal(other.bytes, empty.bytes, AUTH_KEY);
}

static void random_keys_differ(void **state)
{
	struct auth_key a, b;

	(void)state;
	auth_key_random(&a);
	auth_key_random(&b);
	assert_false(a.open || b.open);
	assert_memory_not_equal(a.bytes, b.bytes, AUTH_KEY);
}

static void write_file(const char *path, mode_t mode, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void secret_files_are_private(void **state)
{
	char dir[] = "/tmp/tutti-test-XXXXXX", path[64];
	struct auth_key key, text;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/secret", dir);

	assert_int_equal(auth_key_from_file(&key, path), TUTTI_EAUTH);
	assert_contains(fail_text(), path);
	assert_contains(fail_text(), "tutti-run --make-secret");

	write_file(path, 0600, "the secret\n");
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_OK);
	auth_key_from_text(&text, "the secret");
	assert_memory_equal(key.bytes, text.bytes, AUTH_KEY);
	assert_false(key.open);

	write_file(path, 0640, "the secret\n");
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_EAUTH);
	assert_contains(fail_text(), "chmod 600");
	write_file(path, 0604, "the secret\n");
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_EAUTH);

	write_file(path, 0600, " \n");
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_EAUTH);
	assert_contains(fail_text(), "empty");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* must not block */
	assert_int_equal(auth_key_from_file(&key, path), TUTTI_EAUTH);
	unlink(path);
	rmdir(dir);
}

static void the_default_secret_follows_the_home(void **state)
{
	char path[128], tiny[8], *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	(void)state;
	config = config ? strdup(config) : NULL;
	home = home ? strdup(home) : NULL;
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", "/home/u", 1);
	assert_true(auth_default_path(path, sizeof(path)));
	assert_string_equal(path, "/home/u/.config/tutti/secret");
	assert_false(auth_default_path(tiny, sizeof(tiny)));
	setenv("XDG_CONFIG_HOME", "/cfg", 1);
	assert_true(auth_default_path(path, sizeof(path)));
	assert_string_equal(path, "/cfg/tutti/secret");
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("HOME");
	assert_false(auth_default_path(path, sizeof(path)));
	if (config)
		setenv("XDG_CONFIG_HOME", config, 1);
	if (home)
		setenv("HOME", home, 1);
	free(config);
	free(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(statuses_have_distinct_texts, fresh),
	        cmocka_unit_test_setup(messages_replace_and_stack, fresh),
	        cmocka_unit_test_setup(long_messages_are_cut, fresh),
	        cmocka_unit_test_setup(errno_gives_text_and_advice, fresh),
	        cmocka_unit_test_setup(messages_are_per_thread, fresh),
	        cmocka_unit_test_setup(levels_filter, fresh),
	        cmocka_unit_test_setup(stderr_lines_are_whole_and_clean, fresh),
	        cmocka_unit_test_setup(control_characters_are_escaped, fresh),
	        cmocka_unit_test_setup(defaults_hold, fresh),
	        cmocka_unit_test_setup(values_are_read, fresh),
	        cmocka_unit_test_setup(numbers_ignore_the_locale, fresh),
	        cmocka_unit_test_setup(malformed_values_are_named, fresh),
	        cmocka_unit_test_setup(unknown_variables_name_the_nearest, fresh),
	        cmocka_unit_test_setup(rows_are_complete, fresh),
	        cmocka_unit_test_setup(must_equal_is_compared, fresh),
	        cmocka_unit_test_setup(long_values_are_cut_in_the_comparison, fresh),
	        cmocka_unit_test_setup(sizes_parse, fresh),
	        cmocka_unit_test_setup(tags_depend_on_key_and_pieces, fresh),
	        cmocka_unit_test_setup(random_keys_differ, fresh),
	        cmocka_unit_test_setup(secret_files_are_private, fresh),
	        cmocka_unit_test_setup(the_default_secret_follows_the_home, fresh),
	};

	if (auth_init() != TUTTI_OK)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
