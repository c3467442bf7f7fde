// The base noise that docs/reference/computation.md specifies and flow/noise.py draws on the host: the generator
// Philox4x32-10, followed by the Box-Muller transform.

typedef unsigned int word;
typedef unsigned long long long_word;

__device__ word high(word a, word b) { return (word)((long_word)a * b >> 32); }

__device__ void philox(word c[4], word k0, word k1) {
    for (int round = 0; round < 10; ++round) {
        word high0 = high(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
        word high1 = high(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

// Turns two random integers into two normals. Computes in double precision and rounds the results.
__device__ void box_muller(word a, word b, float* normals) {
    const double step = 1.0 / 4294967296.0, turn = 6.283185307179586 * step;
    double radius = sqrt(-2.0 * log((a + 0.5) * step)), angle = b * turn;
    normals[0] = (float)(radius * cos(angle));
    normals[1] = (float)(radius * sin(angle));
}

// Draws one z[i, j]: `count` channels, from channel `first` on, of the noise z of a level. z has the shape
// (items, channels, height, width). Each thread draws four channels of one position of one item.
// `places` contains the top, the left and the sample number of each item.
extern "C" __global__ void draw_noise(float* z, const word* places, word items, word channels, word height, word width,
                                      word first, word count, word block, word seed, word frame, float temperature) {
    long_word groups = (count + 3) / 4, positions = (long_word)height * width;
    long_word thread = (long_word)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= items * groups * positions) return;
    long_word position = thread % positions, item = thread / positions / groups;
    word group = thread / positions % groups;
    const word* place = places + 3 * item;
    word counter[4] = {place[1] + (word)(position % width), place[0] + (word)(position / width), block + group, place[2]};
    philox(counter, seed, frame);
    float normals[4];
    box_muller(counter[0], counter[1], normals);
    box_muller(counter[2], counter[3], normals + 2);
    for (word k = 0; k < 4 && 4 * group + k < count; ++k)
        z[(item * channels + first + 4 * group + k) * positions + position] = normals[k] * temperature;
}
