/* SPDX-License-Identifier: MIT */
/* tutti-info --devices and --doctor: what the network transports could use on this machine, and the usual faults. */
#ifndef TUTTI_DOCTOR_H
#define TUTTI_DOCTOR_H

/** Prints a line for each device of each transport. 0, or 1 when the environment can't be read. */
int doctor_devices(void);
/** Prints what it looked at, each with "ok" or with what to do. Returns how many faults it found. */
int doctor_examine(void);

#endif
