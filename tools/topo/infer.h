/* SPDX-License-Identifier: MIT */
/*
 * Where not every pair can be measured: which hosts belong together, which pairs are worth a measurement, and what the
 * others are taken to have. Works on the survey of rank 0.
 */
#ifndef TUTTI_TOPO_INFER_H
#define TUTTI_TOPO_INFER_H

#include "rounds.h"
#include "survey.h"

/** More groups of hosts are folded into so many, the last of which has all that are left. */
#define INFER_GROUPS 8

/** From pairs measured at once: s->group, hosts between which most pairs are at least half as fast as good ones. */
int infer_groups(struct survey *s);

/**
 * Pairs to be measured, in a list that the caller frees. A class is what has the same transport, relation and groups.
 * Missing: one of each class that has none among those measured at once. Alone: INFER_EACH of each class, and those that
 * stand out among those measured at once, the worst INFER_SUSPECTS of different hosts.
 */
#define INFER_EACH     3
#define INFER_SUSPECTS 8
int infer_missing(const struct survey *s, struct pair **list, int *pairs);
int infer_alone(const struct survey *s, struct pair **list, int *pairs);

/**
 * Cells of a matrix whose pairs weren't measured get the median of those of the same two hosts, or else of their class.
 * Rows to columns: a way back is compared with ways back.
 */
int infer_fill(const struct survey *s, const bool *measured, double *matrix);

#endif
