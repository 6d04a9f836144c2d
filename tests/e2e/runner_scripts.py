"""Scripts of the kind that runners of CI systems and editors run in containers."""

CHECKOUT = """
const { execFileSync } = require("child_process");
const folder = process.cwd();
// Settings of git are kept apart from those of the job.
process.env.HOME = require("fs").mkdtempSync(`${process.env.RUNNER_TEMP}/home-`);
const git = (...words) => execFileSync("git", words, { encoding: "utf8" });
git("config", "--global", "--add", "safe.directory", folder);
git("init", "-q", folder);
git("remote", "add", "origin", "file:///__w/_temp/origin");
git("fetch", "-q", "--no-tags", "--depth=1", "origin", "HEAD");
git("checkout", "-q", "--force", "-B", "main", "FETCH_HEAD");
console.log(git("log", "-1", "--format=%s").trim());
"""
"""An action of GitHub's that clones with git; it is told by the variables of a job."""

CACHE = """
const { execFileSync } = require("child_process");
const { accessSync, constants, readFileSync, rmSync, writeFileSync } = require("fs");
const isProgram = (path) => {
  try { accessSync(path, constants.X_OK); return true; } catch { return false; }
};
const tar = process.env.PATH.split(":").map((each) => `${each}/tar`).find(isProgram);
const run = (...words) => execFileSync(tar, words, { encoding: "utf8" });
const archive = `${process.env.RUNNER_TEMP}/cache.tgz`, list = `${process.env.RUNNER_TEMP}/list`;
writeFileSync(list, "project/file\\n");
const where = ["-P", "-C", `${process.env.GITHUB_WORKSPACE}/..`];
run("--posix", "-cf", archive, "--exclude", "cache.tgz", ...where, "--files-from", list, "-z");
rmSync("file");
run("-xf", archive, ...where, "-z");
console.log(run("--version").includes("GNU tar"), readFileSync("file", "utf8").trim());
"""
"""One that packs and unpacks a file with the first tar of ``PATH``."""

MAKE_ORIGIN = """
git init -q /__w/_temp/origin && cd /__w/_temp/origin && echo kept > file && git add file
git -c user.name=n -c user.email=e@example.com commit -q -m subject
"""
"""Makes the repository that is cloned."""

DETECT = """
for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh; do
    if [ -x "$shell" ]; then exec "$shell"; fi
done
echo no shell; exit 1
"""
"""Has the best shell of those that an image may have read GitLab's scripts."""

CLONE = """
set -eo pipefail
umask 0000
mkdir -p /builds/group
git init -q -b main /builds/origin
cd /builds/origin
git -c user.name=n -c user.email=e@example.com commit -q --allow-empty -m subject
git clone -q /builds/origin /builds/group/project
"""
"""What GitLab's helper does before a job."""

SCRIPT = r"""
set -eo pipefail
set +o noclobber
: | eval $'export CI=\'true\'\ncd /builds/group/project
git log -1 --format=%s 2> /dev/null || echo foreign
git config --global --add safe.directory "$PWD"
git log -1 --format=%s
echo artifact > artifact && find . -name artifact | xargs sha1sum | awk \'{ print $2 }\'
'
exit 0
"""
"""A job of GitLab's, as the runner writes it."""

LAUNCH = """
nohup sh -c "({ while [ -d '$1' -a ! -f '$1/result' ]; do touch '$1/log'; sleep 0.1; done } &
JENKINS_SERVER_COOKIE=cookie sh -xe '$1/script.sh' > '$1/log' 2>&1; echo \\$? > '$1/result.tmp'
mv '$1/result.tmp' '$1/result'; wait) >&- 2>&- &" > /dev/null 2>&1 &
"""
"""Starts a script of Jenkins', in the folder that is its argument, and leaves it alone."""

BUILD = """
set -e
umask 000
shell=$([ -x /bin/bash ] && echo bash || echo sh)
file=$(mktemp) && folder=$(mktemp -d)
git clone -q "$1" "$folder/clone"
cd "$folder/clone"
date +%s > "$file"
{ git log --format=%s; echo "$shell"; } 2>&1 | tee -a /opt/atlassian/pipelines/agent/log
tar -czf /opt/atlassian/pipelines/agent/artifact.tar.gz -C "$folder" clone
"""
"""A script of Bitbucket's; it clones its argument."""

START = 'trap "exit 0" 15; echo Container started; exec "$@"; while sleep 1 & wait $!; do :; done'
"""Keeps a dev container running until it is told to stop."""

PROBES = """
echo ~
uname -m
(getent passwd 1000 || grep ^user: /etc/passwd) | cut -d: -f1,3,6,7
ldd --version | grep -c GLIBC
id -un
test -w ~ && mkdir -p ~/.vscode-server && echo writable
"""
"""What an editor asks a dev container first."""

REQUIREMENTS = """
set -e
for pair in libc.so.6=GLIBC_2 libstdc++.so.6=GLIBCXX_3.4; do
    library=${pair%=*} version=${pair#*=}
    if [ -f /sbin/ldconfig ]; then
        path=$(/sbin/ldconfig -p | grep "$library" | awk '{ print $NF }')
    else
        path=$(ls "/usr/lib/$library" "/lib64/$library" 2> /dev/null | head -n 1)
    fi
    grep -ao "$version[.][0-9]*" "$(readlink -f "$path")" > /tmp/versions
    echo "$library $version"
done
"""
"""What the server of an editor asks of libraries: the cache of the loader, or usual places, for
files, and these for versions; it prints what it found."""

SERVER = """
const server = require("http").createServer((_, answer) => answer.end("served"));
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const curl = ["-sS", `http://127.0.0.1:${port}/`];
  require("child_process").execFile("curl", curl, (error, said) => {
    console.log(error || said);
    server.close();
  });
});
"""
"""The server: it answers a client of the container once."""
