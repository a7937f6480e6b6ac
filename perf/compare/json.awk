# SPDX-License-Identifier: MIT
# Medians to one JSON object, with where, when and of what. -v machine model kernel date cpus rounds: text;
# -v versions, -v left_out: files with lines "peer|version" and "cell|peer|why".
function quoted(s) {
	gsub(/["\\\t\r]/, " ", s)
	return "\"" s "\""
}
BEGIN {
	printf "{\n  \"machine\": %s, \"model\": %s, \"kernel\": %s,\n", quoted(machine), quoted(model), quoted(kernel)
	printf "  \"date\": %s, \"cpus\": [%s], \"rounds\": %d,\n  \"versions\": {", quoted(date), cpus, rounds
	for (sep = ""; (getline line < versions) > 0; sep = ", ") {
		split(line, f, "|")
		printf "%s%s: %s", sep, quoted(f[1]), quoted(f[2])
	}
	printf "},\n  \"left_out\": ["
	for (sep = ""; (getline line < left_out) > 0; sep = ",") {
		split(line, f, "|")
		printf "%s\n    {\"cell\": %s, \"peer\": %s, \"why\": %s}", sep, quoted(f[1]), quoted(f[2]), quoted(f[3])
	}
	printf "],\n  \"results\": ["
	sep = ""
}
{
	printf "%s\n    {\"transport\": \"%s\", \"ranks\": %d, \"collective\": \"%s\", ", sep, $1, $2, $3
	printf "\"element\": \"%s\", \"peer\": \"%s\", ", $4, $5
	printf "\"bytes\": %d, \"us\": %s, ", $6, $7
	if ($5 != "floor")
		printf "\"p99_us\": %s, \"first_us\": %s, ", $8, $9
	printf "\"rounds\": %d}", $10
	sep = ","
}
END {
	print "\n  ]\n}"
}
