// Matrix products on AMX tiles whose results are reduced before they leave the first-level cache.
//
// Packed operands: blocks of 32 positions, in each the steps of 64 bytes of channels, in each two tiles of 1 KiB. A
// tile of "rows" is [16 positions][64 bytes]; a tile of "columns" is [16 groups of 4 bytes][16 positions][4 bytes].
// Channels are bf16, or int8 with one scale an image. Positions are filled up with copies of the last one, which
// changes no maximum; channels with zeros.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace {

constexpr int kSide = 32;        // positions of a block
constexpr int kTile = 1024;      // bytes
constexpr int kStep = 2 * kTile; // of 32 positions, 64 bytes each
constexpr int kStepsCached = 8;  // of 32 rows, in a third of the first-level cache
constexpr int kGroup = 6;        // blocks of columns whose sums are held: 24 KiB
constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

class Tiles { // the tile registers of this thread: 0-3 sums, 4-5 rows, 6-7 columns
 public:
  Tiles() {
    TileShapes shapes;
    for (int i = 0; i < 8; ++i) shapes.bytes_per_row[i] = 64, shapes.rows[i] = 16;
    _tile_loadconfig(&shapes);
  }
  ~Tiles() { _tile_release(); }
};

template <bool kInt8>
inline void add_products(const uint8_t* rows, const uint8_t* columns, int64_t steps) {
  for (int64_t k = 0; k < steps; ++k, rows += kStep, columns += kStep) {
    _tile_loadd(6, columns, 64);
    _tile_loadd(4, rows, 64);
    if (kInt8) _tile_dpbssd(0, 4, 6); else _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, columns + kTile, 64);
    if (kInt8) _tile_dpbssd(1, 4, 7); else _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, rows + kTile, 64);
    if (kInt8) _tile_dpbssd(2, 5, 6); else _tile_dpbf16ps(2, 5, 6);
    if (kInt8) _tile_dpbssd(3, 5, 7); else _tile_dpbf16ps(3, 5, 7);
  }
}

inline void load_sums(const float* sums) { // [32][32]
  _tile_loadd(0, sums, 4 * kSide);
  _tile_loadd(1, sums + 16, 4 * kSide);
  _tile_loadd(2, sums + 16 * kSide, 4 * kSide);
  _tile_loadd(3, sums + 16 * kSide + 16, 4 * kSide);
}

inline void store_sums(float* sums) {
  _tile_stored(0, sums, 4 * kSide);
  _tile_stored(1, sums + 16, 4 * kSide);
  _tile_stored(2, sums + 16 * kSide, 4 * kSide);
  _tile_stored(3, sums + 16 * kSide + 16, 4 * kSide);
}

inline __m512 half_weight(const uint16_t* weight) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight)));
}

template <bool kInt8>
inline __m512 load_products(const float* sums) { // of int8 they are int32
  return kInt8 ? _mm512_cvtepi32_ps(_mm512_load_si512(sums)) : _mm512_load_ps(sums);
}

// Products of 32 rows with up to kGroup blocks of columns, [blocks][32][32]. A few channels of the rows stay in the
// first-level cache while the columns stream by.
template <bool kInt8>
void multiply(const uint8_t* rows, const uint8_t* columns, int64_t blocks, int64_t steps, float* sums) {
  for (int64_t k = 0; k < steps; k += kStepsCached)
    for (int64_t block = 0; block < blocks; ++block) {
      if (k == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      } else {
        load_sums(sums + block * kSide * kSide);
      }
      const int64_t offset = k * kStep, length = std::min<int64_t>(kStepsCached, steps - k);
      add_products<kInt8>(rows + offset, columns + block * steps * kStep + offset, length);
      store_sums(sums + block * kSide * kSide);
    }
}

struct Best { // running maxima of 16 columns or of 16 lanes of a row, and where they are
  __m512 value;
  __m512i place;

  template <bool kPlaces>
  void see(__m512 other, __m512i at) {
    if (kPlaces) place = _mm512_mask_mov_epi32(place, _mm512_cmp_ps_mask(other, value, _CMP_GT_OQ), at);
    value = _mm512_max_ps(value, other);
  }
};

inline Best load_best(const float* values, const int32_t* places) {
  return {_mm512_load_ps(values), _mm512_load_si512(places)};
}

inline void store_best(const Best& best, float* values, int32_t* places) {
  _mm512_store_ps(values, best.value);
  _mm512_store_si512(places, best.place);
}

struct Maxima { // of one pair: values and, where wanted, places
  float* values;
  int32_t* places;
};

// Maxima of the products of 32 rows, from row `first_row` on: over all columns, and, carried along, over the rows.
// Of equal values the first one counts.
template <bool kInt8, bool kWeighted, bool kPlaces>
void match_rows(const uint8_t* rows, const uint8_t* columns, const uint16_t* weight, int64_t num_columns,
                int64_t steps, int64_t first_row, Maxima over_columns, Maxima over_rows) {
  alignas(64) float sums[kGroup * kSide * kSide], best[kSide * 16];
  alignas(64) int32_t places[kSide * 16] = {};
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (int i = 0; i < kSide; ++i) _mm512_store_ps(best + 16 * i, _mm512_set1_ps(kLowest));
  for (int64_t t = 0; t < num_columns; t += kSide) {
    const int64_t block = (t / kSide) % kGroup;
    if (block == 0)
      multiply<kInt8>(rows, columns + t * steps * 64, std::min<int64_t>(kGroup, (num_columns - t) / kSide), steps,
                      sums);
    const float* sum = sums + block * kSide * kSide;
    const __m512i left_at = _mm512_add_epi32(lanes, _mm512_set1_epi32(t));
    Best left = load_best(over_rows.values + t, over_rows.places + t);
    Best right = load_best(over_rows.values + t + 16, over_rows.places + t + 16);
    for (int i = 0; i < kSide; ++i, sum += kSide) {
      __m512 first = load_products<kInt8>(sum), second = load_products<kInt8>(sum + 16);
      if (kWeighted) {
        first = _mm512_mul_ps(first, half_weight(weight + i * num_columns + t));
        second = _mm512_mul_ps(second, half_weight(weight + i * num_columns + t + 16));
      }
      const __m512i row = _mm512_set1_epi32(first_row + i);
      left.see<kPlaces>(first, row);
      right.see<kPlaces>(second, row);
      Best own = load_best(best + 16 * i, places + 16 * i);
      own.see<kPlaces>(first, left_at);
      own.see<kPlaces>(second, _mm512_add_epi32(left_at, _mm512_set1_epi32(16)));
      store_best(own, best + 16 * i, places + 16 * i);
    }
    store_best(left, over_rows.values + t, over_rows.places + t);
    store_best(right, over_rows.values + t + 16, over_rows.places + t + 16);
  }
  for (int i = 0; i < kSide; ++i) {
    const Best own = load_best(best + 16 * i, places + 16 * i);
    over_columns.values[i] = _mm512_reduce_max_ps(own.value);
    const __mmask16 equal = _mm512_cmp_ps_mask(own.value, _mm512_set1_ps(over_columns.values[i]), _CMP_EQ_OQ);
    if (kPlaces) over_columns.places[i] = equal ? _mm512_mask_reduce_min_epi32(equal, own.place) : 0;
  }
}

// 16 x 16 values of 32 bits, in place: blocks off the diagonal change places, from 8 x 8 down to 1 x 1.
void transpose(__m512i* row) {
  alignas(64) int32_t low[16], high[16];
  for (int size = 8; size; size /= 2) {
    for (int c = 0; c < 16; ++c) {
      low[c] = c & size ? 16 + c - size : c;
      high[c] = c & size ? 16 + c : c + size;
    }
    const __m512i take_low = _mm512_load_si512(low), take_high = _mm512_load_si512(high);
    for (int i = 0; i < 16; ++i)
      if (!(i & size)) {
        const __m512i one = row[i], other = row[i + size];
        row[i] = _mm512_permutex2var_epi32(one, take_low, other);
        row[i + size] = _mm512_permutex2var_epi32(one, take_high, other);
      }
  }
}

inline __m512 widened(__mmask16 inside, const uint16_t* values) { // bf16
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(inside, values)), 16));
}

inline __mmask16 first_lanes(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

// 64 bytes of channels of one position: 32 of bf16, or 64 of int8 after multiplication by `factor`.
template <bool kInt8>
inline __m512i read_step(const uint16_t* source, int64_t left, __m512 factor) {
  if (!kInt8) return _mm512_maskz_loadu_epi16(left >= 32 ? ~0u : (1u << left) - 1, source);
  alignas(64) int8_t bytes[64];
  for (int64_t c = 0; c < 64; c += 16) {
    const __m512 values = _mm512_mul_ps(widened(first_lanes(left - c), source + c), factor);
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + c), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values)));
  }
  return _mm512_load_si512(bytes);
}

template <bool kInt8>
void pack_image(const uint16_t* source, int64_t positions, int64_t channels, bool as_rows, float scale,
                uint8_t* packed) {
  constexpr int64_t kChannels = kInt8 ? 64 : 32; // of a step
  const __m512 factor = _mm512_set1_ps(scale > 0 ? 1 / scale : 0);
  __m512i row[16];
  for (int64_t s = 0; s < positions; s += kSide)
    for (int64_t k = 0; k < channels; k += kChannels)
      for (int64_t half = 0; half < 2; ++half, packed += kTile) {
        for (int64_t r = 0; r < 16; ++r) {
          const int64_t position = std::min(s + 16 * half + r, positions - 1);
          row[r] = read_step<kInt8>(source + position * channels + k, channels - k, factor);
        }
        if (!as_rows) transpose(row);
        for (int r = 0; r < 16; ++r) _mm512_storeu_si512(packed + 64 * r, row[r]);
      }
}

void copy_scaled(const float* from, int64_t count, float scale, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] * scale;
}

// The largest magnitude of bf16 values; infinite or NaN where one of them is.
float largest(const uint16_t* values, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  __m512i most = _mm512_setzero_si512(); // magnitudes order like the integers they are stored as, NaN last
  for (int64_t i = 0; i < count; i += 32) {
    const __mmask32 inside = count - i >= 32 ? ~0u : (1u << (count - i)) - 1;
    most = _mm512_max_epu16(most, _mm512_and_si512(_mm512_maskz_loadu_epi16(inside, values + i), magnitude));
  }
  alignas(64) uint16_t lanes[32];
  _mm512_store_si512(lanes, most);
  const uint32_t bits = static_cast<uint32_t>(*std::max_element(lanes, lanes + 32)) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

} // namespace

extern "C" {

// Ask the kernel for the tile registers, once a process; 0: granted.
int reid_enable() { return static_cast<int>(syscall(SYS_arch_prctl, 0x1023, 18)); }

// bf16 [images][positions][channels], images `stride` values apart -> packed, [images][positions up to 32s][bytes of
// channels up to 64s]. scale: [images], what an int8 value of 1 stands for; for bf16 1. NaN where a value is not finite:
// maxima pass over NaN, of which infinities make more.
void reid_pack(const uint16_t* source, int64_t stride, int64_t images, int64_t positions, int64_t channels, int as_rows,
               int as_int8, uint8_t* packed, float* scale) {
  const int64_t block = (positions + 31) / 32 * kStep, steps = (channels * (as_int8 ? 1 : 2) + 63) / 64;
  for (int64_t image = 0; image < images; ++image, source += stride, packed += block * steps) {
    const float most = largest(source, positions * channels);
    scale[image] = !std::isfinite(most) ? std::numeric_limits<float>::quiet_NaN() : as_int8 ? most / 127 : 1;
    const auto pack = as_int8 ? pack_image<true> : pack_image<false>;
    pack(source, positions, channels, as_rows != 0, scale[image], packed);
  }
}

struct Packed { // images as reid_pack leaves them
  const uint8_t* values;
  const float* scale;
  int64_t images;
};

// Maxima of all pairs of images, both directions, [2][a's images][row][positions], of a row the first b's images: over
// b's, then over a's positions. a: packed as rows; b: as columns, both as int8 or both not; weight: float16 [padded][padded], first index
// a's position, or null. places: of the maxima, the same shape, or null. The first `stride` entries of values and
// places are of the first direction. scratch: 4 * padded values of 4 bytes on a 64-byte line.
void reid_simmax(Packed a, Packed b, int as_int8, const uint16_t* weight, int64_t positions, int64_t padded,
                 int64_t steps, float* values, int32_t* places, int64_t row, int64_t stride, float* scratch) {
  const Tiles tiles;
  const auto bf16 = weight ? (places ? match_rows<false, true, true> : match_rows<false, true, false>)
                           : (places ? match_rows<false, false, true> : match_rows<false, false, false>);
  const auto int8 = weight ? (places ? match_rows<true, true, true> : match_rows<true, true, false>)
                           : (places ? match_rows<true, false, true> : match_rows<true, false, false>);
  const auto match = as_int8 ? int8 : bf16;
  int32_t* scratch_places = reinterpret_cast<int32_t*>(scratch + 2 * padded);
  const Maxima over_b{scratch, scratch_places}, over_a{scratch + padded, scratch_places + padded};
  const int64_t image = padded * steps * 64;
  const int64_t group = std::max<int64_t>(1, (1 << 20) / image); // b's images that stay in the second-level cache
  for (int64_t first = 0; first < b.images; first += group)
    for (int64_t i = 0; i < a.images; ++i)
      for (int64_t j = first; j < std::min(first + group, b.images); ++j) {
        std::fill(over_a.values, over_a.values + padded, kLowest);
        std::fill(over_a.places, over_a.places + padded, 0);
        for (int64_t s = 0; s < padded; s += kSide)
          match(a.values + i * image + s * steps * 64, b.values + j * image, weight ? weight + s * padded : nullptr,
                padded, steps, s, Maxima{over_b.values + s, over_b.places + s}, over_a);
        const int64_t at = (i * row + j) * positions;
        const float scale = a.scale[i] * b.scale[j];
        copy_scaled(over_b.values, positions, scale, values + at);
        copy_scaled(over_a.values, positions, scale, values + stride + at);
        if (!places) continue;
        std::memcpy(places + at, over_b.places, 4 * positions);
        std::memcpy(places + stride + at, over_a.places, 4 * positions);
      }
}

// out . relu(W x + bias) of each of the rows x, [num_rows][inputs] float32. W: packed columns, [hidden][inputs].
// bias, out: [hidden], a multiple of 32, out zero where W was filled up. scratch: 32 * inputs up to 32s, bf16.
void reid_mlp_head(const float* x, int64_t num_rows, int64_t inputs, const uint8_t* weight, const float* bias,
                   const float* out, int64_t hidden, float* result, uint8_t* scratch) {
  const Tiles tiles;
  const int64_t steps = (inputs + 31) / 32;
  alignas(64) float sums[kSide * kSide], total[kSide * 16];
  const __m512 zero = _mm512_setzero_ps(); // max(0, NaN) is NaN, max(NaN, 0) is 0
  for (int64_t first = 0; first < num_rows; first += kSide) {
    std::memset(scratch, 0, kStep * steps);
    for (int64_t r = 0; r < kSide; ++r)
      for (int64_t c = 0; c < inputs; c += 16) {
        const __mmask16 mask = inputs - c >= 16 ? 0xffff : (1u << (inputs - c)) - 1;
        const __m512 values = _mm512_maskz_loadu_ps(mask, x + std::min(first + r, num_rows - 1) * inputs + c);
        uint8_t* to = scratch + (c / 32) * kStep + (r / 16) * kTile + (r % 16) * 64 + 2 * (c % 32);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
      }
    for (int i = 0; i < kSide; ++i) _mm512_store_ps(total + 16 * i, zero);
    for (int64_t f = 0; f < hidden; f += kSide) {
      // a stride of 0 puts the same 16 biases into every row
      _tile_loadd(0, bias + f, 0);
      _tile_loadd(1, bias + f + 16, 0);
      _tile_loadd(2, bias + f, 0);
      _tile_loadd(3, bias + f + 16, 0);
      add_products<false>(scratch, weight + f * steps * 64, steps);
      store_sums(sums);
      const __m512 left = _mm512_loadu_ps(out + f), right = _mm512_loadu_ps(out + f + 16);
      for (int i = 0; i < kSide; ++i) {
        __m512 sum = _mm512_load_ps(total + 16 * i);
        sum = _mm512_fmadd_ps(_mm512_max_ps(zero, _mm512_load_ps(sums + kSide * i)), left, sum);
        sum = _mm512_fmadd_ps(_mm512_max_ps(zero, _mm512_load_ps(sums + kSide * i + 16)), right, sum);
        _mm512_store_ps(total + 16 * i, sum);
      }
    }
    for (int64_t i = 0; i < std::min<int64_t>(kSide, num_rows - first); ++i)
      result[first + i] = _mm512_reduce_add_ps(_mm512_load_ps(total + 16 * i));
  }
}

} // extern "C"
