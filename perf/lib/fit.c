/* SPDX-License-Identifier: MIT */
/* See fit.h. */
#include "fit.h"

double fit_share(const struct claim *all, int n)
{
	double share = 1;

	for (int i = 0; i < n; i++) {
		double wanted = 0, least = 0;

		for (int k = 0; k < n; k++) {
			if (all[k].host != all[i].host)
				continue;
			wanted += all[k].wanted;
			if (all[k].available > 0 && (least <= 0 || all[k].available < least))
				least = all[k].available;
		}
		if (least > 0 && wanted * share > least * FIT_PART)
			share = least * FIT_PART / wanted;
	}
	return share;
}
