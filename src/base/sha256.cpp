#include "base/sha256.h"

#include <openssl/evp.h>

namespace pagein {

namespace {
EVP_MD_CTX* context(void* p) { return static_cast<EVP_MD_CTX*>(p); }
}  // namespace

void Sha256::Deleter::operator()(void* p) const { EVP_MD_CTX_free(::pagein::context(p)); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) { reset(); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::reset() {
  // Only fails without memory or without SHA-256 in the library: no input does that.
  if (EVP_DigestInit_ex(context(context_.get()), EVP_sha256(), nullptr) != 1) __builtin_trap();
}

void Sha256::update(ByteView bytes) {
  if (EVP_DigestUpdate(context(context_.get()), bytes.data(), bytes.size()) != 1) __builtin_trap();
}

Sha256Bytes Sha256::finish() {
  Sha256Bytes digest;
  unsigned length = 0;
  if (EVP_DigestFinal_ex(context(context_.get()), digest.data(), &length) != 1) __builtin_trap();
  return digest;
}

Sha256Bytes sha256(ByteView bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace pagein
