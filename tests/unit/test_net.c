/* SPDX-License-Identifier: MIT */
/* Sockets: names, the choice of interfaces, and that everything which blocks has an end. */
#include "expect.h"

#include "../../src/os/os.h"
#include "../../src/util/clock.h"
#include "../../src/util/error.h"
#include "../../src/util/net.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct net_addr ip(const char *text)
{
	struct net_addr a;
	char host_port[NET_HOST];
	int n;

	snprintf(host_port, sizeof(host_port), strchr(text, ':') ? "[%s]:1" : "%s:1", text);
	assert_ok(net_resolve(host_port, &a, 1, &n, limit_of(0)));
	assert_int_equal(n, 1);
	a.port = 0;
	return a;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void test_host_and_port(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} good[] = {{"a:1", "a", 1},
	            {"node-7.cluster.local:65535", "node-7.cluster.local", 65535},
	            {"[::1]:80", "::1", 80},
	            {"10.0.0.1:4711", "10.0.0.1", 4711}};
	static const char *const bad[] = {"",
	                                  "a",
	                                  ":1",
	                                  "a:",
	                                  "a:0",
	                                  "a:65536",
	                                  "a:-1",
	                                  "a:1x",
	                                  "a: 1",
	                                  "::1:80",
	                                  "fe80::1",
	                                  "[]:1",
	                                  "a:99999999999999999999"};
	char host[NET_HOST], longest[400];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_ok(net_split(good[i].text, host, &port));
		assert_string_equal(host, good[i].host);
		assert_int_equal(port, good[i].port);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (net_split(bad[i], host, &port) != TUTTI_EINVAL)
			flunk("\"%s\" was taken for host and port", bad[i]);
	memset(longest, 'a', sizeof(longest));
	strcpy(longest + sizeof(longest) - 3, ":1");
	assert_int_equal(net_split(longest, host, &port), TUTTI_EINVAL);
}

static void test_addresses_as_text(void **state)
{
	struct net_addr a = ip("10.1.2.3"), none = {.family = 0};
	char text[NET_TEXT];

	(void)state;
	a.port = 5;
	assert_string_equal(net_text(&a, text), "10.1.2.3:5");
	a = ip("fd00::2");
	a.port = 65535;
	assert_string_equal(net_text(&a, text), "[fd00::2]:65535");
	assert_string_equal(net_text(&none, text), "(none)");
	a = ip("127.1.2.3");
	assert_true(net_is_loopback(&a));
	a = ip("::1");
	assert_true(net_is_loopback(&a));
	a = ip("::2");
	assert_false(net_is_loopback(&a));
	a = ip("::");
	assert_true(net_is_any(&a));
	a = ip("169.254.7.7");
	assert_true(net_is_link_local(&a));
	a = ip("febf::1");
	assert_true(net_is_link_local(&a));
	a = ip("fec0::1");
	assert_false(net_is_link_local(&a));
}

static void test_resolving(void **state)
{
	_Atomic int stop = 1;
	struct net_limit stopped = limit_of(20);
	struct net_addr a[4];
	int n;

	(void)state;
	assert_int_equal(net_resolve("localhost", a, 4, &n, limit_of(20)), TUTTI_EINVAL);
	assert_int_equal(net_resolve("no-such-name.invalid:77", a, 4, &n, limit_of(0.3)), TUTTI_ETIMEOUT);
	assert_contains(fail_text(), "no-such-name.invalid");
	stopped.stop = &stop;
	assert_int_equal(net_resolve("no-such-name.invalid:77", a, 4, &n, stopped), TUTTI_EABORTED);
}

/* Also on a host without /etc/hosts, and without a name server that knows these names. */
static void test_localhost_is_the_loopback(void **state)
{
	static const char *const names[] = {"localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST."};
	char name[64], text[NET_TEXT];
	struct net_addr a[4];
	int n;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), "%s:77", names[i]);
		assert_ok(net_resolve(name, a, 4, &n, limit_of(0.3)));
		assert_int_equal(n, 2);
		assert_string_equal(net_text(&a[0], text), "127.0.0.1:77");
		assert_string_equal(net_text(&a[1], text), "[::1]:77");
	}
	assert_ok(net_resolve("localhost:77", a, 1, &n, limit_of(0.3)));
	assert_int_equal(n, 1);
	assert_int_equal(net_resolve("notlocalhost:77", a, 4, &n, limit_of(0.3)), TUTTI_ETIMEOUT);
	assert_int_equal(net_resolve("localhost.invalid:77", a, 4, &n, limit_of(0.3)), TUTTI_ETIMEOUT);
}

/* ---- interfaces -------------------------------------------------------------------------------------------------- */

static struct net_iface machine[10];
static int nmachine;

static void add(const char *name, const char *address, int prefix)
{
	struct net_iface *i = &machine[nmachine++];

	snprintf(i->name, sizeof(i->name), "%s", name);
	i->addr = ip(address);
	i->prefix = prefix;
	i->no_carrier = false;
}

static int make_machine(void **state)
{
	(void)state;
	nmachine = 0;
	add("lo", "127.0.0.1", 8);
	add("lo", "::1", 128);
	add("docker0", "172.17.0.1", 16);
	add("eth0", "192.168.1.5", 24);
	add("eth0", "fd00::5", 64);
	add("eth0", "fe80::5", 64);
	add("eth10", "10.0.0.5", 8);
	add("ib0", "10.1.0.5", 16);
	add("thunderbolt0", "169.254.3.3", 16);
	return 0;
}

/* The addresses chosen, as text; or the status, as text. */
static const char *choice(const char *spec, bool loopback_only, int cap)
{
	static char text[512];
	struct net_addr out[NET_IFACES];
	int n, rc = net_choose(machine, nmachine, spec, loopback_only, out, cap, &n);

	if (rc != TUTTI_OK) {
		assert_int_equal(rc, TUTTI_EINVAL);
		assert_contains(fail_text(), "TUTTI_IFACE");
		return "EINVAL";
	}
	text[0] = '\0';
	for (int i = 0; i < n; i++) {
		char one[NET_TEXT];
		net_text(&out[i], one);
		one[strlen(one) - 2] = '\0'; /* ":0" */
		strcat(strcat(text, i ? " " : ""), one);
	}
	return text;
}

#define ROUTED "192.168.1.5 [fd00::5] 10.0.0.5 10.1.0.5"

static void test_best_interfaces_first(void **state)
{
	(void)state;
	assert_string_equal(choice(NULL, false, 16), ROUTED " [fe80::5] 169.254.3.3 172.17.0.1");
	assert_string_equal(choice("", false, 16), ROUTED " [fe80::5] 169.254.3.3 172.17.0.1");
	assert_string_equal(choice("", false, 3), "192.168.1.5 [fd00::5] 10.0.0.5");
	assert_string_equal(choice("", true, 16), "127.0.0.1 [::1]");
	assert_string_equal(choice("eth0", true, 16), "127.0.0.1 [::1]");
	/* One that came up a moment ago, or whose cable is out, goes before the loopback, and counts when it is named. */
	machine[6].no_carrier = true;
	assert_string_equal(choice("", false, 16), "192.168.1.5 [fd00::5] 10.1.0.5 [fe80::5] 169.254.3.3 172.17.0.1");
	assert_string_equal(choice("eth10", false, 16), "10.0.0.5");
	for (int i = 2; i < nmachine; i++)
		machine[i].no_carrier = true;
	assert_string_equal(choice("", false, 1), "172.17.0.1");
	assert_null(strstr(choice("", false, 16), "127.0.0.1"));
	nmachine = 2;
	assert_string_equal(choice("", false, 16), "127.0.0.1 [::1]");
	nmachine = 0;
	assert_string_equal(choice("", false, 16), "");
}

static void test_named_interfaces(void **state)
{
	(void)state;
	assert_string_equal(choice("eth10", false, 16), "10.0.0.5");
	assert_string_equal(choice("ib0,eth10", false, 16), "10.0.0.5 10.1.0.5");
	assert_string_equal(choice("eth*", false, 16), "192.168.1.5 [fd00::5] 10.0.0.5 [fe80::5]");
	assert_string_equal(choice("eth1*", false, 16), "10.0.0.5");
	assert_string_equal(choice("*", false, 16), ROUTED " [fe80::5] 169.254.3.3 172.17.0.1 127.0.0.1 [::1]");
	assert_string_equal(choice("10.0.0.0/8", false, 16), "10.0.0.5 10.1.0.5");
	assert_string_equal(choice("10.1.0.0/15", false, 16), "10.0.0.5 10.1.0.5");
	assert_string_equal(choice("10.1.0.0/16", false, 16), "10.1.0.5");
	assert_string_equal(choice("10.1.0.5", false, 16), "10.1.0.5");
	assert_string_equal(choice("fd00::/8", false, 16), "[fd00::5]");
	assert_string_equal(choice("0.0.0.0/0", false, 2), "192.168.1.5 10.0.0.5");
	assert_string_equal(choice("lo", false, 16), "127.0.0.1 [::1]");
	assert_string_equal(choice("docker0,eth10", false, 16), "10.0.0.5 172.17.0.1");
}

static void test_excluded_interfaces(void **state)
{
	(void)state;
	assert_string_equal(choice("^eth*,docker*", false, 16), "10.1.0.5 169.254.3.3");
	assert_string_equal(choice("^fe80::/10,169.254.0.0/16,docker0,nosuch0", false, 16), ROUTED);
	assert_string_equal(choice("^eth*,docker*,ib*,thunder*", false, 16), "127.0.0.1 [::1]");
	assert_string_equal(choice("^*", false, 16), "EINVAL");
	assert_contains(fail_text(), "\"^*\" excludes every interface");
}

static void test_malformed_interfaces(void **state)
{
	static const char *const bad[] = {"eth0,",       ",eth0",       "eth0,,ib0", "10.0.0.0/33", "10.0.0.0/",
	                                  "10.0.0.0/8x", "10.0.0.0/-1", "10.0.0/8",  "fd00::/129",  "e*h0",
	                                  "^^eth0",      "eth0,^ib0",   "^",         "eth0 ib0"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strcmp(choice(bad[i], false, 16), "EINVAL") != 0)
			flunk("\"%s\" was taken for a list of interfaces", bad[i]);
	assert_string_equal(choice("eth0,eht1", false, 16), "EINVAL");
	assert_contains(fail_text(), "no interface that is up matches \"eht1\"");
	assert_contains(fail_text(), "available: lo docker0 eth0 eth10 ib0 thunderbolt0");
	assert_string_equal(choice("11.0.0.0/8", false, 16), "EINVAL");
}

static void test_nearness(void **state)
{
	struct net_addr near = ip("192.168.1.77"), far = ip("192.168.2.77"), other = ip("fd00::7");

	(void)state;
	assert_true(net_is_near(&machine[3], &near));
	assert_false(net_is_near(&machine[3], &far));
	assert_false(net_is_near(&machine[3], &other));
	assert_true(net_is_near(&machine[4], &other));
	machine[3].prefix = 22;
	assert_true(net_is_near(&machine[3], &far));
}

static void test_this_machine(void **state)
{
	struct net_addr out[NET_ADDRS];
	int n;

	(void)state;
	assert_ok(net_interfaces("", true, out, NET_ADDRS, &n));
	assert_true(n >= 1);
	assert_true(net_is_loopback(&out[0]));
	assert_ok(net_interfaces("", false, out, NET_ADDRS, &n));
	assert_true(n >= 1);
	assert_int_equal(net_interfaces("nosuch0", false, out, NET_ADDRS, &n), TUTTI_EINVAL);
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void listen_somewhere(const char *address, struct net_addr *at, int *fd)
{
	*at = ip(address);
	assert_ok(net_listen(at, fd));
	assert_true(at->port != 0);
}

static int accept_one(int listener)
{
	assert_ok(net_wait(listener, POLLIN, limit_of(20)));
	return net_accept(listener);
}

static void connect_pair(int *a, int *b)
{
	struct net_addr at;
	int listener;

	listen_somewhere("127.0.0.1", &at, &listener);
	assert_ok(net_connect(&at, NULL, limit_of(20), a));
	*b = accept_one(listener);
	assert_true(*b >= 0);
	close(listener);
}

static void test_connecting(void **state)
{
	static const char *const places[] = {"127.0.0.1", "::1"};
	struct net_addr at, from, end;
	int listener, a, b;

	(void)state;
	for (int i = 0; i < 2; i++) {
		listen_somewhere(places[i], &at, &listener);
		from = ip(i ? "::1" : "127.0.0.9");
		assert_ok(net_connect(&at, &from, limit_of(20), &a));
		assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(a, F_GETFL) & O_NONBLOCK);
		b = accept_one(listener);
		assert_true(net_far_end(b, &end));
		assert_memory_equal(end.ip, from.ip, sizeof(end.ip));
		assert_true(net_local_end(b, &end));
		assert_memory_equal(&end, &at, sizeof(end));
		net_tune(a, 5);
		close(a);
		close(b);
		close(listener);
		assert_int_equal(net_connect(&at, NULL, limit_of(20), &a), TUTTI_EPEER);
		assert_contains(fail_text(), "Connection refused");
		assert_int_equal(a, -1);
	}
	from = ip("192.0.2.99");
	assert_int_equal(net_connect(&at, &from, limit_of(20), &a), TUTTI_ESYSTEM);
}

/* One listener takes both families, and tells IPv4 for what it is. */
static void test_any_address(void **state)
{
	struct net_addr at, to = ip("127.0.0.1"), end;
	int listener, a, b;

	(void)state;
	listen_somewhere("::", &at, &listener);
	to.port = at.port;
	assert_ok(net_connect(&to, NULL, limit_of(20), &a));
	b = accept_one(listener);
	assert_true(net_far_end(b, &end));
	assert_int_equal(end.family, 4);
	assert_true(net_is_loopback(&end));
	close(a);
	close(b);
	close(listener);
}

/*
 * Without a listener a dialler can meet itself, when its own port is the one it dials. Linux takes even ports for
 * connections, one after the other, so in as many attempts as there are each had its turn.
 */
static void test_nobody_meets_himself(void **state)
{
	struct net_addr at = ip("127.0.0.1");
	int listener, fd;

	(void)state;
	at.port = 40000;
	while (net_listen(&at, &listener) != TUTTI_OK)
		at.port += 2;
	close(listener);
	for (int i = 0; i < 15000; i++)
		assert_int_equal(net_connect(&at, NULL, limit_of(20), &fd), TUTTI_EPEER);
}

struct stream {
	int fd;
	size_t bytes;
	int rc;
};

static void *write_stream(void *arg)
{
	struct stream *s = arg;
	char *buf = malloc(s->bytes);

	for (size_t i = 0; i < s->bytes; i++)
		buf[i] = (char)(i % 251);
	s->rc = net_write(s->fd, buf, s->bytes, limit_of(20));
	free(buf);
	close(s->fd);
	return NULL;
}

static void test_more_than_a_buffer_holds(void **state)
{
	struct stream s = {.bytes = 8 << 20};
	char *buf = malloc(s.bytes), byte;
	pthread_t thread;
	int fd;

	(void)state;
	connect_pair(&s.fd, &fd);
	assert_int_equal(pthread_create(&thread, NULL, write_stream, &s), 0);
	assert_ok(net_read(fd, buf, s.bytes, limit_of(20)));
	for (size_t i = 0; i < s.bytes; i++)
		if (buf[i] != (char)(i % 251))
			flunk("byte %zu is wrong", i);
	pthread_join(thread, NULL);
	assert_ok(s.rc);
	assert_int_equal(net_read(fd, &byte, 1, limit_of(20)), TUTTI_EPEER);
	free(buf);
	close(fd);
}

static void test_every_wait_ends(void **state)
{
	_Atomic int stop = 0;
	struct net_limit stopped = limit_of(20);
	static char big[64 << 20];
	char byte;
	int a, b;

	(void)state;
	connect_pair(&a, &b);
	assert_int_equal(net_read(a, &byte, 1, limit_of(0.05)), TUTTI_ETIMEOUT);
	assert_int_equal(net_write(a, big, sizeof(big), limit_of(0.05)), TUTTI_ETIMEOUT);
	assert_int_equal(net_wait(-1, 0, limit_of(0)), TUTTI_ETIMEOUT);
	atomic_store(&stop, 1);
	stopped.stop = &stop;
	assert_int_equal(net_wait(b, POLLPRI, stopped), TUTTI_EABORTED);
	close(b);
	assert_int_equal(net_write(a, big, sizeof(big), limit_of(20)), TUTTI_EPEER);
	close(a);
}

static void test_what_listens(void **state)
{
	struct net_addr at = {.family = 4, .ip = {127, 0, 0, 1}};
	int listener, local, a, pair[2], datagrams = socket(AF_INET, SOCK_DGRAM, 0);
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "tutti-test-listens-%d", (int)getpid());
	assert_ok(net_listen(&at, &listener));
	assert_ok(net_listen_local(name, &local));
	assert_ok(net_connect(&at, NULL, limit_of(20), &a));
	assert_int_equal(pipe(pair), 0);
	assert_true(net_is_listener(listener));
	assert_false(net_is_listener(a));
	assert_false(net_is_listener(local)); /* it listens, but is not of TCP */
	assert_false(net_is_listener(datagrams));
	assert_false(net_is_listener(pair[0]));
	assert_false(net_is_listener(-1));
	close(a);
	close(listener);
	close(local);
	close(datagrams);
	close(pair[0]);
	close(pair[1]);
}

static void test_local_sockets(void **state)
{
	char name[64];
	int listener, a, b, p[2], got;
	pid_t pid;
	uid_t uid;
	char byte;

	(void)state;
	snprintf(name, sizeof(name), "tutti-test-net-%d", (int)getpid());
	assert_int_equal(net_connect_local(name, limit_of(20), &a), TUTTI_EPEER);
	assert_ok(net_listen_local(name, &listener));
	assert_int_equal(net_listen_local(name, &a), TUTTI_EPEER);
	assert_contains(fail_text(), name);
	assert_ok(net_connect_local(name, limit_of(20), &a));
	b = accept_one(listener);
	assert_true(os_peer(a, &pid, &uid));
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, geteuid());

	assert_int_equal(pipe(p), 0);
	assert_int_equal(net_recv_fd(b, limit_of(0.05), &got), TUTTI_ETIMEOUT);
	assert_ok(net_send_fd(a, p[1]));
	assert_ok(net_recv_fd(b, limit_of(20), &got));
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(got, "z", 1), 1);
	assert_int_equal(read(p[0], &byte, 1), 1);
	assert_ok(net_write(a, "z", 1, limit_of(20)));
	assert_int_equal(net_recv_fd(b, limit_of(20), &got), TUTTI_ESYSTEM); /* a byte without a descriptor */
	close(a);
	assert_int_equal(net_recv_fd(b, limit_of(20), &got), TUTTI_EPEER);
	close(b);
	close(listener);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
#define on_machine(test) cmocka_unit_test_setup(test, make_machine)
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_host_and_port),
	        cmocka_unit_test(test_addresses_as_text),
	        cmocka_unit_test(test_resolving),
	        cmocka_unit_test(test_localhost_is_the_loopback),
	        on_machine(test_best_interfaces_first),
	        on_machine(test_named_interfaces),
	        on_machine(test_excluded_interfaces),
	        on_machine(test_malformed_interfaces),
	        on_machine(test_nearness),
	        cmocka_unit_test(test_this_machine),
	        cmocka_unit_test(test_connecting),
	        cmocka_unit_test(test_any_address),
	        cmocka_unit_test(test_nobody_meets_himself),
	        cmocka_unit_test(test_more_than_a_buffer_holds),
	        cmocka_unit_test(test_every_wait_ends),
	        cmocka_unit_test(test_what_listens),
	        cmocka_unit_test(test_local_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
