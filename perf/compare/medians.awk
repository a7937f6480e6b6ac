# SPDX-License-Identifier: MIT
# Samples, one line a round: transport ranks collective element peer bytes us p99 first calls; to one line for each
# peer and size: the medians over rounds, and how many rounds there were. Lines stay in the order of first appearance.
function median(key, field,   n, i, j, t, v) {
	n = count[key]
	for (i = 1; i <= n; i++) {
		t = sample[key, field, i]
		for (j = i; j > 1 && v[j - 1] > t; j--)
			v[j] = v[j - 1]
		v[j] = t
	}
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
{
	key = $1 " " $2 " " $3 " " $4 " " $5 " " $6
	if (!(key in count))
		order[++keys] = key
	count[key]++
	for (f = 7; f <= 9; f++)
		sample[key, f, count[key]] = $f + 0
}
END {
	for (k = 1; k <= keys; k++) {
		key = order[k]
		printf "%s %.3f %.3f %.3f %d\n", key, median(key, 7), median(key, 8), median(key, 9), count[key]
	}
}
