/* SPDX-License-Identifier: MIT */
/* Stands for this folder on macOS. */
#include "../absent.h"

ABSENT_TRANSPORT(verbs, "RDMA through libibverbs", "not in this build: macOS's librdma is not supported yet");
