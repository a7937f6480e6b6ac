/* SPDX-License-Identifier: MIT */
/* Registered memory of a device, in regions that grow: few registrations, however many rings. Private to device.c. */
#ifndef TUTTI_VERBS_MEMORY_H
#define TUTTI_VERBS_MEMORY_H

#include "device.h"

/** The first region: shows at once whether memory can be registered. */
int memory_begin(struct device *d);
void memory_end(struct device *d);

#endif
