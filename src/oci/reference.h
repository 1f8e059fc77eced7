// Image references as people write them: "debian", "ghcr.io/a/b:1@sha256:...".
// Grammar and normalisation: distribution/reference (reference.go, normalize.go),
// OCI distribution-spec v1.1 "Pull" for names and tags.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace pagein::oci {

// A valid, normalised reference; a value. Thread-compatible.
class Reference {
 public:
  // Docker's normalisation: no host means docker.io, a single name there gets
  // "library/"; index.docker.io is docker.io. A reference with neither tag nor
  // digest stays so (see with_default_tag). invalid_argument says what is wrong.
  static Result<Reference> parse(std::string_view text);
  // From parts that are checked the same way.
  static Result<Reference> make(std::string_view host, std::string_view repository);

  const std::string& host() const { return host_; }              // "docker.io", "localhost:5000"
  const std::string& repository() const { return repository_; }  // "library/debian"
  const std::optional<std::string>& tag() const { return tag_; }
  const std::optional<Digest>& digest() const { return digest_; }

  // host/repository: what credentials and trust lists are matched against.
  std::string name() const { return host_ + "/" + repository_; }
  // What to ask a registry for: the digest if there is one, else the tag, else
  // "latest".
  std::string identifier() const;
  // "docker.io/library/debian:12@sha256:..."; parse(str()) gives the same value.
  std::string str() const;

  Reference with_default_tag() const;  // adds "latest" if neither tag nor digest
  Result<Reference> with_tag(std::string_view tag) const;  // drops the digest
  Reference with_digest(const Digest& digest) const;       // keeps the tag

  bool operator==(const Reference&) const = default;

 private:
  std::string host_;
  std::string repository_;
  std::optional<std::string> tag_;
  std::optional<Digest> digest_;
};

// 1-128 of [A-Za-z0-9_.-], the first not '.' or '-'.
bool is_valid_tag(std::string_view tag);
// The referrers fallback tag, "sha256-<hex>" (distribution-spec v1.1
// "Referrers Tag Schema").
std::string referrers_tag(const Digest& digest);

}  // namespace pagein::oci
