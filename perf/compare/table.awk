# SPDX-License-Identifier: MIT
# Medians to the table of one cell. -v cell: "transport ranks collective element"; -v columns: peers, Tutti first;
# -v field: 7 for the median, 8 for the 99th percentile; -v ratios: 1 for Tutti's time over each peer's.
$1 " " $2 " " $3 " " $4 == cell {
	value[$5, $6] = $field
	if (!($6 in seen))
		sizes[++n] = $6
	seen[$6]
}
function text(v) {
	return v > 0 ? sprintf("%.4g", v) : "-"
}
function ratio(a, b) {
	if (!(a > 0 && b > 0))
		return "-"
	return sprintf(a / b < 0.1 ? "%.3f" : "%.2f", a / b)
}
END {
	peers = split(columns, peer, " ")
	printf "%10s", "bytes"
	for (p = 1; p <= peers; p++)
		printf " %13s", peer[p]
	for (p = 2; p <= peers && ratios; p++)
		printf " %*s", length(peer[p]) + 2, "/" peer[p]
	print ""
	for (s = 1; s <= n; s++) {
		b = sizes[s]
		printf "%10d", b
		for (p = 1; p <= peers; p++)
			printf " %13s", text(value[peer[p], b])
		for (p = 2; p <= peers && ratios; p++)
			printf " %*s", length(peer[p]) + 2, ratio(value[peer[1], b], value[peer[p], b])
		print ""
	}
}
