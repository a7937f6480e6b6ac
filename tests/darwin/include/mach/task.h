/* See tests/darwin/darwin.h. */
#include "mach.h"
