# Sourced: what a person downloads, and what tells their tools about it. Everything in $out whose name begins with turnpike-arm64.

publish() {
    local card=$work/turnpike-arm64.img base=$out/turnpike-arm64
    rm -f "$base"*
    # Blocks of one size, so that the number of cores does not change the bytes.
    xz --threads=0 --block-size=64MiB -6 --stdout "$card" >"$base.img.xz"
    bmaptool --quiet create --output "$base.bmap" "$card"
    # The map names the file it was made of and the moment; neither is of use to who copies by it.
    cp "$work/bundle.tpu" "$base-$version.tpu"
    cp "$work/slot/manifest.toml" "$base.manifest.toml"
    bill_of_materials >"$base.spdx.json"
    about >"$base.issue.txt"
    (cd "$out" && sha256sum turnpike-arm64[-.]* >"$work/sums" && mv "$work/sums" turnpike-arm64.sha256)
    sign "$base"
    # Not among the sums: these name the place of the image, URL=https://… or where it is now.
    imager_list "$base" >"$base.os_list.json"
    cp "$base.os_list.json" "$base.rpi-imager-manifest"
}

# KEY=file: a minisign secret key; what is published is signed with it. Updates are signed by their communities (image/README.md).
sign() {
    [ -n "${KEY:-}" ] || return 0
    minisign -S -s "$KEY" -m "$1.sha256" -t "turnpike $version"
}

about() {
    cat <<ABOUT
Turnpike $name, build $version ($(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)), for Raspberry Pi 3, 4 and Zero 2 W; experimental on Pi 5.
Flash with Raspberry Pi Imager, bmaptool or dd. Settings: turnpike.toml on the boot partition, before the first start or after.
There is no password: SSH is for the keys that you write into the settings.

$(locked | awk '{ print $1, $2 }')
ABOUT
}

# What Raspberry Pi Imager reads: as a repository's list and, the same, as a manifest to open by a double click.
imager_list() { # imager_list BASE
    jq --null-input --arg name "Turnpike $name" --arg url "${URL:-file://$1.img.xz}" --argjson size "$(stat -c %s "$work/turnpike-arm64.img")" \
        --arg sum "$(sha256sum "$work/turnpike-arm64.img" | cut -d' ' -f1)" --argjson packed "$(stat -c %s "$1.img.xz")" \
        --arg packed_sum "$(sha256sum "$1.img.xz" | cut -d' ' -f1)" --arg date "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)" '{os_list: [{
            name: $name,
            description: "A relay that sells metered bandwidth over Bitcoin trade channels",
            icon: "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCA0MCA0MCI+PGNpcmNsZSBjeD0iMjAiIGN5PSIyMCIgcj0iNSIvPjxwYXRoIGQ9Ik0yIDIwaDM2TTIwIDJ2MzYiIHN0cm9rZT0iIzAwMCIgc3Ryb2tlLXdpZHRoPSI0Ii8+PC9zdmc+",
            url: $url, extract_size: $size, extract_sha256: $sum, image_download_size: $packed, image_download_sha256: $packed_sum,
            release_date: $date, init_format: "rpi-preseed", architecture: "armv8", devices: ["pi3-64bit", "pi4-64bit", "pi5-64bit"]}]}'
}

# SPDX 2.3: every file on the card with the package that it is of.
bill_of_materials() {
    local files=$work/bom.files packages=$work/bom.packages crates=$work/bom.crates
    sort -u -k 2 "$work/owners" >"$work/owner"
    { list_files "$work/root" root; list_files "$work/initramfs" initramfs; list_files "$work/boot" boot; } >"$files"
    cut -f4 "$files" | sort -u >"$work/bom.used"
    locked | awk 'NR == FNR { used[$1]; next } $1 in used { print $1 "\t" $2 "\t" $3 }' "$work/bom.used" - >"$packages"
    cargo tree --locked --package turnpike-firmware --no-default-features --target aarch64-unknown-linux-gnu --edges normal --prefix none --format '{p}	{l}' |
        sed -e 's/ (\*)$//' -e 's/ ([^)]*)//' | awk -F'\t' '{ split($1, a, " "); print a[1] "\t" substr(a[2], 2) "\t" $2 }' | sort -u >"$crates"
    jq --null-input --rawfile files "$files" --rawfile packages "$packages" --rawfile crates "$crates" --arg version "$version" --arg name "$name" \
        --arg date "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" '
        def rows($text): $text | split("\n") | map(select(length > 0) | split("\t"));
        def id: gsub("[^A-Za-z0-9.-]"; "-");
        (rows($files)) as $f | (rows($packages)) as $p | (rows($crates)) as $c |
        {spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: ("turnpike-arm64-" + $version),
         documentNamespace: ("urn:turnpike:spdx:" + $version), creationInfo: {created: $date, creators: ["Tool: turnpike-image"]},
         packages: ([{SPDXID: "SPDXRef-Package-turnpike", name: "turnpike", versionInfo: $name, downloadLocation: "NOASSERTION", filesAnalyzed: false, licenseDeclared: "MIT OR Apache-2.0"}]
           + ($p | map({SPDXID: ("SPDXRef-Package-" + (.[0] | id)), name: .[0], versionInfo: .[1], downloadLocation: "NOASSERTION", filesAnalyzed: false,
               checksums: [{algorithm: "SHA256", checksumValue: .[2]}],
               externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: ("pkg:deb/debian/" + .[0] + "@" + .[1] + "?arch=arm64")}]}))
           + ($c | map({SPDXID: ("SPDXRef-Crate-" + (.[0] + "-" + .[1] | id)), name: .[0], versionInfo: .[1], downloadLocation: "NOASSERTION", filesAnalyzed: false,
               licenseDeclared: (if (.[2] // "") == "" then "NOASSERTION" else (.[2] | gsub("/"; " OR ")) end),
               externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: ("pkg:cargo/" + .[0] + "@" + .[1])}]}))),
         files: ($f | to_entries | map({SPDXID: ("SPDXRef-File-" + (.key | tostring)), fileName: .value[0],
               checksums: [{algorithm: "SHA1", checksumValue: .value[1]}, {algorithm: "SHA256", checksumValue: .value[2]}]})),
         relationships: ([{spdxElementId: "SPDXRef-DOCUMENT", relationshipType: "DESCRIBES", relatedSpdxElement: "SPDXRef-Package-turnpike"}]
           + ($f | to_entries | map({spdxElementId: ("SPDXRef-Package-" + (.value[3] | id)), relationshipType: "CONTAINS", relatedSpdxElement: ("SPDXRef-File-" + (.key | tostring))}))
           + ($c | map({spdxElementId: "SPDXRef-Package-turnpike", relationshipType: "DEPENDS_ON", relatedSpdxElement: ("SPDXRef-Crate-" + (.[0] + "-" + .[1] | id))})))}'
}

# Prints name, SHA-1, SHA-256 and package of every file in a folder.
list_files() { # list_files FOLDER NAME
    (cd "$1" && find . -type f -printf '%P\n' | sort >"$work/bom.paths"
        xargs -d '\n' sha1sum <"$work/bom.paths" | cut -c 1-40 >"$work/bom.sha1"
        xargs -d '\n' sha256sum <"$work/bom.paths" | cut -c 1-64 >"$work/bom.sha256")
    paste "$work/bom.paths" "$work/bom.sha1" "$work/bom.sha256" | awk -F'\t' -v place="$2" '
        NR == FNR { split($0, a, " "); package = a[1]; sub(/^[^ ]* /, ""); owner[$0] = package; base[gensub_base($0)] = package; next }
        { path = $1; from = "turnpike"
          if (path in owner) from = owner[path]; else if (path ~ /\/kernel$/) from = base["vmlinuz"]; else if ((path ".xz") in owner) from = owner[path ".xz"]
          else if (place == "boot" && gensub_base(path) in base && path !~ /\.(toml|txt|scr|env)$/) from = base[gensub_base(path)]
          print "./" place "/" path "\t" $2 "\t" $3 "\t" from }
        function gensub_base(p) { sub(/.*\//, "", p); return p }' "$work/owner" -
}
