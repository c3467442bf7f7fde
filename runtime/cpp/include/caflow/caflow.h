/* caflow runs a model from a bundle (docs/reference/bundle.md) without Python. It draws samples of an image, chooses
 * the best of N samples, and computes the likelihood of an existing image:
 *
 *     caflow_model *model = NULL;
 *     caflow_results *best = NULL;
 *     caflow_image small = {rgb, height, width, 3 * width, 3};
 *
 *     if (caflow_open("models/x4-photo.caflow", NULL, &model) != CAFLOW_OK ||
 *         caflow_best_of(model, &small, 1, NULL, &best) != CAFLOW_OK) {
 *         fprintf(stderr, "%s\n", caflow_last_error());
 *     } else {
 *         const caflow_result *result = best->result[0];
 *         printf("%zu x %zu, %.2f nats\n", result->width, result->height, result->log_likelihood);
 *     }
 *     caflow_free_results(best);
 *     caflow_close(model);
 *
 * Terms: the condition is the input image, the target is the image to produce, and a sample is one target that the
 * model draws at random. A model works on levels; level 0 is the coarsest. The noise is the random numbers from which a
 * sample is drawn. The temperature is a factor on the noise: 0 gives the smoothest image, 1 the distribution that the
 * model learned. Typicality, from 0 to 1, says how usual an image is among the images of the bundle's calibration.
 *
 * Options: a NULL pointer to options selects all defaults. An options struct begins with `struct_size`, the sizeof of
 * the struct that the application was compiled with, so that later versions can add fields at the end. Initialize the
 * struct with the macro of its name, CAFLOW_…_INIT, then set the fields that you need. A field that is 0 or NULL has
 * its default value.
 *
 * Calibration: typicalities are known if the bundle has been calibrated (caflow calibrate). The typicality of images
 * (caflow_judge, CAFLOW_JUDGE_IMAGE) does not depend on the temperature. The typicality of samples
 * (CAFLOW_JUDGE_SAMPLE, CAFLOW_RANK_TYPICAL, caflow_result.sample_typicality) is known only for the temperatures at
 * which the bundle was calibrated, and only with one temperature for all levels. x4-photo, x4-real and x2-video are
 * calibrated at 0, 0.5, 0.7, 0.8, 0.9 and 1. At another temperature, an option that requires the typicality of samples
 * fails with CAFLOW_ERROR_INPUT, and the message lists the calibrated temperatures. Without such an option the call
 * succeeds, and sample_typicality is NaN. The bundle's calibration.json contains the temperatures as
 * samples[k].temperature.
 *
 * Memory: the library reads images, options and texts of the caller during the call only. The caller owns what a
 * function returns through its last argument, and frees it once:
 *
 * - caflow_close frees a model. It must be the last call with the model: no other thread may still use it.
 * - caflow_close_stream frees a stream. It must be the last call with the stream.
 * - caflow_free_results frees results, with all structs, arrays and texts that they point to, which are valid until
 *   then.
 *
 * The three functions may be called from any thread and in any order, for example caflow_close before
 * caflow_close_stream. A stream can still be used after its model was closed; the graphs stay in memory until both are
 * closed. Results stay valid after the model or the stream was closed. All three functions ignore NULL.
 *
 * Threads: any number of threads may use one model at the same time. Only one thread at a time may use a stream, but it
 * need not always be the same thread. Different streams of one model may be used at the same time.
 *
 * Errors: a function that can fail returns a caflow_status. On failure the handle or results that it returns through
 * its last argument are NULL, and caflow_last_error describes what is wrong and what to do. No C++ exception leaves the
 * library.
 */
#ifndef CAFLOW_H
#define CAFLOW_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CAFLOW_API __attribute__((visibility("default")))
#else
#define CAFLOW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Status that functions return. */
typedef enum caflow_status {
    CAFLOW_OK = 0,
    CAFLOW_ERROR_INPUT = 1,         /* an argument or an option is not valid */
    CAFLOW_ERROR_BUNDLE = 2,        /* the folder is not a bundle, or the bundle is damaged or of another version */
    CAFLOW_ERROR_BACKEND = 3,       /* the backend is not available on this machine, or it failed */
    CAFLOW_ERROR_NOT_FINITE = 4,    /* a sample or a likelihood is infinite or NaN, so there is no result */
    CAFLOW_ERROR_OUT_OF_MEMORY = 5, /* memory ran out, even after the pixel budget was reduced as far as possible */
    CAFLOW_ERROR_INTERNAL = 6,      /* a bug in this library */
    CAFLOW_ERROR_UNTYPICAL = 7,     /* every sample of an image was rejected, with CAFLOW_OTHERWISE_DROP */
    CAFLOW_ERROR_STOPPED = 8        /* caflow_set_stopped or caflow_draw_options.progress stopped the call */
} caflow_status;

/* A model that is ready to run. caflow_open returns it. */
typedef struct caflow_model caflow_model;

/* A video that is drawn frame by frame. caflow_open_stream returns it. */
typedef struct caflow_stream caflow_stream;

/* Value of caflow_result.sample if the result is the enlarged condition and belongs to no sample. In a stream, only
 * frames without a finite sample have this value: a rejected frame that is replaced keeps the number of its sample. */
#define CAFLOW_NO_SAMPLE UINT32_MAX

/* An RGB image of the caller, 8 bits per channel: rows from top to bottom, pixels from left to right, each as R, G, B.
 * A target has sides of up to 2^20 pixels; a condition has sides of up to 2^20 / scale pixels.
 *
 * Models that complete images, whose manifest has `condition_channels` 4, read conditions with a fourth channel: a mask.
 * It is 128 or more where the other three have values of the target. Elsewhere these are a first guess, such as a hole
 * that is filled smoothly. The method `prepare` of Python makes such a condition; this library does not. */
typedef struct caflow_image {
    const uint8_t *rgb;
    size_t height;   /* in pixels, at least 1 */
    size_t width;    /* in pixels, at least 1 */
    size_t stride;   /* bytes from the start of one row to the start of the next, channels * width to 2^30 */
    size_t channels; /* bytes of a pixel: 3, the default, or 4 for a condition with a mask */
} caflow_image;

/* Options of caflow_open. */
typedef struct caflow_open_options {
    size_t struct_size;
    /* Execution provider of ONNX Runtime that runs the model: "auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", or
     * "ort:NAME" for the provider NAME of a plug-in library, such as "ort:openvino". The number of a device may follow,
     * as in "cuda:1"; by default it is the first. A backend that is named here runs and computes what the CPU computes,
     * or caflow_open fails with CAFLOW_ERROR_BACKEND. "auto", the default, is "cuda" if ONNX Runtime can use the GPU,
     * and "cpu" otherwise. "tensorrt" and "tensorrt-rtx" load the engines in the bundle that caflow-export --trt built
     * for this GPU. Without engines of their kind in the bundle, they build engines in caflow_open. Both set the
     * environment variable NVIDIA_TF32_OVERRIDE of the process to 0, unless it is set. */
    const char *backend;
    /* Folder in which "tensorrt" and "tensorrt-rtx" store what they compile, so that later processes can use it. It is
     * created if it does not exist. NULL, the default, stores nothing. */
    const char *engine_cache;
    /* Number of target pixels that are computed at once, over all images and samples of a batch; up to 2^40, default
     * 2^20. It bounds the memory. Larger images are cut into tiles. When memory runs out, the library halves the budget
     * and tries again. */
    uint64_t pixel_budget;
    /* Least overlap of neighbouring tiles, in target pixels; up to 2^20, default 64. CAFLOW_NO_OVERLAP: no overlap. */
    int64_t overlap;
    /* Number of CPU threads that run the model, shared by all calls with it; up to 1024, default one per core. */
    uint32_t threads;
    uint32_t flags; /* 0 or CAFLOW_WITHOUT_CALIBRATION */
    /* Path of the plug-in library with the execution provider, for the backends "tensorrt-rtx" and "ort:NAME"; NULL for
     * all others. It requires a library of caflow that was built with headers of ONNX Runtime 1.23 or newer. */
    const char *plugin_library;
} caflow_open_options;

/* Flag: do not read the bundle's calibration. Typicalities are then unknown, and options that require them fail. */
#define CAFLOW_WITHOUT_CALIBRATION 1

/* Value of caflow_open_options.overlap for tiles that do not overlap. */
#define CAFLOW_NO_OVERLAP (-1)

/* All defaults of caflow_open_options. */
#define CAFLOW_OPEN_OPTIONS_INIT \
    { sizeof(caflow_open_options), NULL, NULL, 0, 0, 0, 0, NULL }

/* How the samples of an image are ranked, for caflow_draw_options.rank. CAFLOW_RANK_CONSISTENCY requires a bundle that
 * can make the condition of a result again, and CAFLOW_RANK_TYPICAL one that is calibrated at the temperature. */
enum {
    CAFLOW_RANK_OF_BUNDLE = 0,   /* the one that the bundle names; with `keep`, by log-likelihood */
    CAFLOW_RANK_LIKELIHOOD = 1,  /* by log-likelihood, highest first */
    CAFLOW_RANK_CONSISTENCY = 2, /* by PSNR of the sample, degraded again, against the condition; highest first */
    CAFLOW_RANK_TYPICAL = 3      /* by distance of the levels' bits/dim from usual ones; smallest first */
};

/* Which typicality decides whether a sample is rejected, for caflow_draw_options.judge. A typicality is about the
 * fraction of the calibration's images that are as unusual as this one, or more unusual. */
enum {
    CAFLOW_JUDGE_SAMPLE = 0, /* typicality of the drawn sample among samples at its temperature: takes no extra time,
                              * and requires a bundle that is calibrated at this temperature */
    CAFLOW_JUDGE_IMAGE = 1   /* typicality of the sample's 8-bit image among true images: samples are scored in the
                              * order of their rank until one is accepted */
};

/* The result for an image if all of its samples are rejected, for caflow_draw_options.otherwise. */
enum {
    CAFLOW_OTHERWISE_KEEP = 0,    /* the best rejected sample */
    CAFLOW_OTHERWISE_BICUBIC = 1, /* the condition, enlarged bicubically */
    CAFLOW_OTHERWISE_DROP = 2    /* none: the call fails with CAFLOW_ERROR_UNTYPICAL */
};

/* Verdict on a result, in caflow_result.outcome. */
enum {
    CAFLOW_UNJUDGED = 0, /* no verdict was requested, or the calibration has no images like this one */
    CAFLOW_ACCEPTED = 1, /* its typicality is at least min_typicality */
    CAFLOW_REJECTED = 2, /* its typicality is below min_typicality; of samples, the best, if none was accepted */
    CAFLOW_BICUBIC = 3   /* no sample was accepted; this is the condition, enlarged bicubically */
};

/* Flags that add data to results. Combine them with |. */
enum {
    CAFLOW_WITH_PIXELS = 1,         /* fill in caflow_result.pixels */
    CAFLOW_WITH_LIKELIHOOD_MAPS = 2 /* fill in caflow_result.log_likelihood_map */
};

/* Options of caflow_best_of, caflow_sample and caflow_open_stream: how samples are drawn, ranked and rejected. */
typedef struct caflow_draw_options {
    size_t struct_size;
    /* Number N of samples of each image; up to 2^20, default 10. */
    uint32_t n;
    /* Number of the first sample; default 0. The samples of an image, redraws included, have consecutive numbers up to
     * 2^32 - 2. Sample k does not depend on N: n = 1 and first_sample = k draw it again. */
    uint32_t first_sample;
    /* Seed of the noise; default 0. The same image, seed, frame and options give the same samples. */
    uint32_t seed;
    /* Number of a video frame; default 0. With the same seed, different numbers give independent noise. Set it only if
     * you draw the frames of a video with caflow_best_of or caflow_sample. A stream counts its frames itself. */
    uint32_t frame;
    /* Factors on the noise, finite and at least 0: one for all levels, or one per level, coarsest first. `temperatures`
     * is the length of the array; 0, the default, means the temperature that the bundle names, for all levels. */
    const double *temperature;
    size_t temperatures;
    /* Progressive best-of-N: number of samples to compute at each level, coarsest first. The first number is N, and no
     * number is larger than the one before it. After each level, only the most likely samples continue. The result is
     * approximate, because a dropped sample might have become the best. It requires a ranking by likelihood and no
     * min_typicality, and all N samples of an image must fit in one batch. `keeps` is the length of the array: the
     * number of levels, or 0, the default, to drop no sample. */
    const uint32_t *keep;
    size_t keeps;
    uint32_t rank;  /* CAFLOW_RANK_…; default CAFLOW_RANK_OF_BUNDLE */
    uint32_t flags; /* CAFLOW_WITH_…, combined with | */
    /* Reject samples whose typicality is below this value, which is above 0 and below 1. About this fraction of good
     * samples is rejected by mistake; 0.01 is a common choice. It requires a calibrated bundle (see Calibration at the
     * top); a calibration with few images does not allow small values. 0, the default, judges nothing. */
    double min_typicality;
    uint32_t judge;     /* CAFLOW_JUDGE_…; default CAFLOW_JUDGE_SAMPLE */
    uint32_t otherwise; /* CAFLOW_OTHERWISE_…; default CAFLOW_OTHERWISE_KEEP */
    /* Largest number of further samples that are drawn for an image to replace rejected ones; up to 2^20, default 20.
     * CAFLOW_NO_REDRAWS: none. */
    uint32_t redraws;
    /* 1: change the chosen sample so that it matches the condition when it is reduced to the condition's size, as far
     * as values in 0…255 allow; then score the changed image. Samples are ranked before the change. It requires a model
     * that enlarges. 0, the default: no change. */
    uint32_t consistent;
    /* Function for a progress bar and a Cancel button. After each batch it is called in the thread of the call: `done`
     * of `count` windows are finished. A window is one sample of a whole image, or of a tile of a large image. If the
     * function returns another value than 0, the call stops and fails with CAFLOW_ERROR_STOPPED. `done` starts again
     * after memory ran out, when `consistent` results are scored, and in each frame of a stream. Redraws and the scores
     * of CAFLOW_JUDGE_IMAGE are not reported; caflow_set_stopped stops them too. The function must not throw
     * exceptions. It may use the library, except for the stream that called it, and must not close the model. NULL, the
     * default: no calls. */
    int (*progress)(void *user, uint64_t done, uint64_t count);
    void *user; /* first argument of `progress`; with a stream, it must be valid until the stream is closed */
} caflow_draw_options;

/* Value of caflow_draw_options.redraws to replace no rejected sample. */
#define CAFLOW_NO_REDRAWS UINT32_MAX

/* All defaults of caflow_draw_options. */
#define CAFLOW_DRAW_OPTIONS_INIT \
    { sizeof(caflow_draw_options), 0, 0, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL }

/* The noise of a stream's frames. */
enum {
    CAFLOW_NOISE_FIXED = 0,   /* the same noise for all frames of a scene, so that static content does not flicker */
    CAFLOW_NOISE_FRESH = 1,   /* new noise for each frame */
    CAFLOW_NOISE_DRIFTING = 2 /* p times the last frame's noise plus sqrt(1 - p^2) times new noise, p = `persistence` */
};

/* Options of caflow_open_stream: the noise of the frames. */
typedef struct caflow_stream_options {
    size_t struct_size;
    double persistence; /* for CAFLOW_NOISE_DRIFTING: above 0 and below 1; ignored otherwise */
    uint32_t noise;     /* CAFLOW_NOISE_…; default CAFLOW_NOISE_FIXED */
    uint32_t flags;     /* no flags are defined yet: 0 */
} caflow_stream_options;

/* All defaults of caflow_stream_options. */
#define CAFLOW_STREAM_OPTIONS_INIT \
    { sizeof(caflow_stream_options), 0, 0, 0 }

/* Facts about an open model. The texts belong to the model and are valid until caflow_close. */
typedef struct caflow_model_info {
    size_t struct_size;
    const char *task;        /* such as "super-resolution" */
    const char *description; /* what the model does, in a few words */
    const char *precision;   /* of the numbers inside the networks: "fp32", "fp16", "bf16" or "int8" */
    const char *backend;     /* the backend that runs, such as "onnxruntime cpu" */
    uint32_t scale;          /* target width / condition width, which is also target height / condition height */
    uint32_t size_multiple;  /* targets are padded inside the library until width and height are multiples of this */
    uint32_t levels;         /* number of levels */
    uint32_t channels;       /* number of channels of an image */
    uint64_t pixel_budget;   /* the present budget, which is lower than the option if memory ran out */
} caflow_model_info;

/* An empty caflow_model_info, for caflow_info to fill in. */
#define CAFLOW_MODEL_INFO_INIT \
    { sizeof(caflow_model_info), NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/* One (image, sample) pair, one scored image, or one frame. Later versions may add fields at the end. */
typedef struct caflow_result {
    size_t image;    /* index of its condition in the call; in a stream, number of the frame, from 0 */
    uint32_t sample; /* number of the sample; CAFLOW_NO_SAMPLE if there is none; 0 for a scored image */
    uint32_t levels; /* number of levels: length of per_level, level_typicality and level_residuals */
    size_t height;   /* of the target, in pixels */
    size_t width;    /* of the target, in pixels */
    /* (height, width, 3) RGB image, 8 bits per channel, rows without gaps. NULL for a scored image. Values that are known
     * from the condition's mask are equal to the condition's. If the model's manifest has the `color_space` "ycbcr", the
     * values are luma, blue and red chroma, at the size of the condition: the application makes RGB of them. */
    const uint8_t *rgb;
    /* log p(target | condition) in nats. Of a sample: the density at the continuous values that were drawn. Of a scored
     * image or a consistent result: the density at the middle of the intervals [w, w + 1) of its integers w. NaN
     * if `sample` is CAFLOW_NO_SAMPLE. */
    double log_likelihood;
    /* Part of log_likelihood that each level adds, in nats, coarsest first. */
    const double *per_level;
    double bits_per_dim; /* -log_likelihood / (3 * height * width * ln 2): lower is more likely. With a mask, the
                          * divisor counts only values that are not known; in log_likelihood
                          * each cell of a map counts by the fraction of its pixels that are drawn */
    double consistency;  /* PSNR in dB, up to 100, if samples are ranked by it or made consistent; NaN otherwise */
    /* With CAFLOW_WITH_PIXELS: (height, width, 3) float32 values as they were drawn. Values in [w, w + 1) stand for the
     * integer w. NULL otherwise. */
    const float *pixels;
    /* With CAFLOW_WITH_LIKELIHOOD_MAPS: (height, width) float32, part of log_likelihood of each pixel in nats; 0
     * everywhere if there is no sample. NULL otherwise. */
    const float *log_likelihood_map;
    uint32_t starts_scene; /* 1 for the first frame of a scene in a stream, 0 otherwise */
    uint32_t outcome;      /* the verdict: CAFLOW_UNJUDGED … CAFLOW_BICUBIC */
    uint32_t rejected;     /* number of samples of this image that were rejected or not finite */
    /* Why the image was not accepted, as a text for people, such as "softer than its input allows (bits/dim of level 2:
     * -3.1 standard deviations)". NULL if the image was accepted, no verdict was requested, or there is no sample. */
    const char *reason;
    double sample_typicality; /* of a sample as it was drawn, 0…1; NaN if unknown */
    double image_typicality;  /* of an image that was scored, judged or made consistent, 0…1; NaN if unknown */
    /* About the bits/dim of each level, coarsest first: the typicality of this level alone, 0…1; and its difference
     * from the expected value, in standard deviations (above 0 is less likely than expected). NULL if unknown. Both are
     * about the image if image_typicality is known, and about the sample otherwise. */
    const double *level_typicality;
    const double *level_residuals;
} caflow_result;

/* All results of one call. */
typedef struct caflow_results {
    size_t count;
    const caflow_result *const *result; /* `count` pointers */
} caflow_results;

/* The library's version, "MAJOR.MINOR.PATCH". The text belongs to the library and is always valid. May be called from
 * any thread. */
CAFLOW_API const char *caflow_version(void);

/* The message of the last call that failed in this thread, or "" if none has failed. It is UTF-8: other bytes of names
 * are replaced by U+FFFD. The text belongs to the library and is valid until the next call in this thread. */
CAFLOW_API const char *caflow_last_error(void);

/* Open the bundle in a folder and check the size and SHA-256 hash of each file that its manifest lists. The model's
 * graphs are loaded when they are first needed, by any backend but "cpu" at this call, and are hashed again then: if a
 * file has changed in between, the call that needs it fails with CAFLOW_ERROR_BUNDLE, or with CAFLOW_ERROR_BACKEND
 * if it is an engine. Replace files of an open bundle only by new files, as `mv` does, and never write into them,
 * because ONNX Runtime reads weights from the file while graphs run. Relative paths are relative to the working
 * directory at this call. On success the caller owns `*model` and closes it with caflow_close. May be called from
 * any thread. */
CAFLOW_API caflow_status caflow_open(const char *folder, const caflow_open_options *options, caflow_model **model);

/* Close a model; NULL is ignored. This must be the last call with the model: no other thread may still use it. Results
 * and streams of the model stay valid. May be called from any thread. */
CAFLOW_API void caflow_close(caflow_model *model);

/* Stop the calls that use a model, or let calls use it again; NULL is ignored. With another `stopped` than 0, the calls
 * and streams that run end as soon as the operator that they compute is done, usually within a second, and later ones
 * end at their first graph: with CAFLOW_ERROR_STOPPED. With 0, calls and streams work again; give 0 only after those
 * that were to be stopped have returned. May be called from any thread, and from a signal handler. */
CAFLOW_API void caflow_set_stopped(caflow_model *model, int stopped);

/* Write facts about a model into `info`. Set info->struct_size first, for example with CAFLOW_MODEL_INFO_INIT. The
 * texts are valid until caflow_close. The call never waits for other calls with the model. May be called from any
 * thread. */
CAFLOW_API caflow_status caflow_info(const caflow_model *model, caflow_model_info *info);

/* Draw N samples of each condition and return the best sample of each: `count` results, in the order of the conditions.
 * `count` is from 1 to 2^20. The samples of an image do not depend on the other images. On success the caller owns
 * `*results` and frees them with caflow_free_results. May be called from any thread. */
CAFLOW_API caflow_status caflow_best_of(caflow_model *model, const caflow_image *conditions, size_t count,
                                        const caflow_draw_options *options, caflow_results **results);

/* Draw N samples of each condition and return all of them: N results for each condition, in the order of the
 * conditions, and for each condition the best sample first. `count` is from 1 to 2^20. The options `keep` and
 * `min_typicality` are errors here. On success the caller owns `*results` and frees them with caflow_free_results. May
 * be called from any thread. */
CAFLOW_API caflow_status caflow_sample(caflow_model *model, const caflow_image *conditions, size_t count,
                                       const caflow_draw_options *options, caflow_results **results);

/* Compute the log-likelihood of existing targets: `count` results, in the order of the targets. `targets` and
 * `conditions` each have `count` images, from 1 to 2^20. Each target is `scale` times as high and as wide as its
 * condition. `flags` is 0 or CAFLOW_WITH_LIKELIHOOD_MAPS. On success the caller owns `*results` and frees them with
 * caflow_free_results. May be called from any thread. */
CAFLOW_API caflow_status caflow_score(caflow_model *model, const caflow_image *targets, const caflow_image *conditions,
                                      size_t count, uint32_t flags, caflow_results **results);

/* Compute the log-likelihood of existing targets like caflow_score, and a verdict on each target. The outcome is
 * CAFLOW_REJECTED if the target's image_typicality is below `min_typicality`, CAFLOW_ACCEPTED if it is not, and
 * CAFLOW_UNJUDGED if it is unknown. `min_typicality` is above 0 and below 1; 0.01 is a common choice. The bundle must
 * be calibrated. On success the caller owns `*results` and frees them with caflow_free_results. May be called from any
 * thread. */
CAFLOW_API caflow_status caflow_judge(caflow_model *model, const caflow_image *targets, const caflow_image *conditions,
                                      size_t count, double min_typicality, uint32_t flags, caflow_results **results);

/* Open a stream, which draws the frames of one video. On the first frame of each scene it chooses the best of N
 * samples, and it uses the sample of this number for the whole scene. A new scene begins when the colours change
 * abruptly, or the size changes. Frames are judged as drawn, and rejected frames are not drawn again. A rejected frame
 * that is replaced by its enlarged input keeps the sample number and the likelihood of the rejected sample. The options
 * `keep` and `consistent`, and CAFLOW_JUDGE_IMAGE with `min_typicality`, are errors here; `frame` and `redraws` are
 * ignored. On success the caller owns `*stream` and closes it with caflow_close_stream, before or after the model is
 * closed. May be called from any thread. */
CAFLOW_API caflow_status caflow_open_stream(caflow_model *model, const caflow_draw_options *draw,
                                            const caflow_stream_options *options, caflow_stream **stream);

/* Draw the next frame of a stream: one result. If no sample of the frame is finite, the result is the frame, enlarged
 * bicubically, without a likelihood. A valid image counts as a frame even if the call fails or is stopped; the next
 * frame can be drawn all the same. On success the caller owns `*results` and frees them with caflow_free_results. Only
 * one thread at a time may use a stream. */
CAFLOW_API caflow_status caflow_draw_frame(caflow_stream *stream, const caflow_image *frame, caflow_results **results);

/* Close a stream; NULL is ignored. This must be the last call with the stream: no other thread may still use it.
 * Results of the stream stay valid. May be called from any thread. */
CAFLOW_API void caflow_close_stream(caflow_stream *stream);

/* Free results; NULL is ignored. Everything that they point to is freed as well. May be called from any thread. */
CAFLOW_API void caflow_free_results(caflow_results *results);

#ifdef __cplusplus
}
#endif

#endif
