/* SPDX-License-Identifier: MIT */
/* Stands for this folder on macOS, and where libfabric's headers were missing at build time. */
#include "../absent.h"

ABSENT_TRANSPORT(libfabric, "fabrics through libfabric",
                 "built without it: on macOS, or rdma/fabric.h was missing (Debian: libfabric-dev)");
