/* SPDX-License-Identifier: MIT */
/*
 * Which provider, domain and fabric of libfabric to use. Each rank lists the ones that it could use, best first, and tells
 * the others; when all lists are known, each takes the one of its own that most ranks have.
 */
#ifndef TUTTI_LIBFABRIC_CHOOSE_H
#define TUTTI_LIBFABRIC_CHOOSE_H

#include "../../src/bootstrap/contact.h"
#include "load.h"

#include <stdbool.h>

/** How slots travel. */
enum fabric_mode {
	FABRIC_AUTO,
	FABRIC_WRITE,   /* remote writes with completion data */
	FABRIC_MESSAGE, /* tagged messages */
};

struct choice_rules {
	const char *provider; /* as fi_info prints it; NULL: not given */
	const char *iface;    /* TUTTI_IFACE */
	enum fabric_mode mode;
	bool loopback_only;
	bool any;     /* the user asked for libfabric: also providers that emulate a fabric over sockets or memory */
	size_t bytes; /* that one operation must be able to carry */
};

#define CHOICES (CONTACT_BLOB / (int)sizeof(uint32_t))

struct choice {
	const struct fi_info *info;
	enum fabric_mode mode;
	uint32_t name; /* of what ranks must have in common; never 0 */
	bool local;    /* this fabric does not leave the machine */
};

struct choices {
	struct fi_info *info[2]; /* owned: for either mode */
	struct choice list[CHOICES];
	int n;
};

/** Before libfabric is loaded: EUNSUPPORTED where nobody asked for it and this machine has no device for it. */
int choices_worth_a_look(const struct choice_rules *rules);
/** EUNSUPPORTED with the reason when there is none; free with choices_free, also then. */
int choices_find(struct choices *c, const struct fabric_calls *fi, const struct choice_rules *rules);
void choices_free(struct choices *c, const struct fabric_calls *fi);
/** The names, for the contact. */
void choices_write(const struct choices *c, uint8_t blob[CONTACT_BLOB]);
/**
 * The choice that most ranks of the n have; of equals the one that the lowest rank likes best. here: is that rank on this
 * machine? At least one is listed.
 */
const struct choice *choices_common(const struct choices *c, const struct contact *contacts, int n, int index,
                                    bool (*here)(const void *arg, int rank), const void *arg);

#endif
