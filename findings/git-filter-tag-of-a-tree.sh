#!/bin/sh
# git 1:2.39.5-0+deb12u3 (Debian 12): a repository that has a tag of a tree can't be fetched with
# --filter=tree:0. The server leaves the tree out, though a wanted ref names it, and the client
# then refuses all that it was sent. Real repositories have such tags: v2.6.11-tree of Linux.
#
# Seen:
#   fatal: bad revision '<id of the tree>'
#   error: file://… did not send all necessary objects
# With the tag left out by a negative refspec, the same fetch succeeds.
#
# Needs apt, configured for Debian 12. Ends with 1 if git behaves otherwise.
set -eu

version=1:2.39.5-0+deb12u3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q "git=$version" > /dev/null
dpkg-deb -x git_*.deb unpacked
export GIT_EXEC_PATH="$folder/unpacked/usr/lib/git-core" HOME="$folder" GIT_CONFIG_NOSYSTEM=1
git="$folder/unpacked/usr/bin/git"
"$git" --version

"$git" init -q -b main remote
"$git" -C remote config uploadpack.allowFilter true
echo text > remote/file
"$git" -C remote add file
"$git" -C remote -c user.name=n -c user.email=e@example.com commit -q -m one
"$git" -C remote tag tree 'HEAD^{tree}'

fetch() {
    rm -rf mirror
    "$git" init -q --bare mirror
    "$git" --git-dir=mirror fetch -q --no-tags --filter=tree:0 "file://$folder/remote" \
        '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' "$@"
}

if fetch 2> errors; then
    echo "changed: the fetch succeeds"
    exit 1
fi
cat errors
grep -q "did not send all necessary objects" errors
fetch '^refs/tags/tree'
echo "as described: with the tag it fails, without it succeeds"
