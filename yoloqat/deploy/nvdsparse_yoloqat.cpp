// Boxes of a raw YOLO output for DeepStream's Gst-nvinfer: (4 + classes + extra, anchors), centre x, centre y, width and
// height in pixels of the network's input, then a score per class, then what is ignored (mask coefficients).
//
//   g++ -O2 -shared -fPIC -I/opt/nvidia/deepstream/deepstream/sources/includes -I/usr/local/cuda/include
//       nvdsparse_yoloqat.cpp -o libnvdsparse_yoloqat.so

#include <algorithm>
#include <cstring>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

// Some versions give the dimensions with the batch in front, some without.
bool channels_and_anchors(const NvDsInferDims &dims, unsigned int &channels, unsigned int &anchors) {
    if (dims.numDims < 2) {
        return false;
    }
    channels = dims.d[dims.numDims - 2];
    anchors = dims.d[dims.numDims - 1];
    return true;
}

// A segmentation model has a second output, the prototypes of its masks.
const NvDsInferLayerInfo *boxes_of(std::vector<NvDsInferLayerInfo> const &layers) {
    for (const NvDsInferLayerInfo &layer : layers) {
        if (layer.layerName != nullptr && std::strcmp(layer.layerName, "output0") == 0) {
            return &layer;
        }
    }
    return layers.empty() ? nullptr : &layers[0];
}

}  // namespace

extern "C" bool NvDsInferParseYoloqat(std::vector<NvDsInferLayerInfo> const &outputLayersInfo,
                                      NvDsInferNetworkInfo const &networkInfo,
                                      NvDsInferParseDetectionParams const &detectionParams,
                                      std::vector<NvDsInferParseObjectInfo> &objectList) {
    unsigned int channels = 0, anchors = 0;
    const unsigned int classes = detectionParams.numClassesConfigured;
    const NvDsInferLayerInfo *layer = boxes_of(outputLayersInfo);
    if (layer == nullptr || layer->dataType != FLOAT || layer->buffer == nullptr ||
        !channels_and_anchors(layer->inferDims, channels, anchors) || channels < 4 + classes) {
        return false;
    }
    const float *raw = static_cast<const float *>(layer->buffer);
    const float right = static_cast<float>(networkInfo.width), bottom = static_cast<float>(networkInfo.height);
    for (unsigned int anchor = 0; anchor < anchors; ++anchor) {
        unsigned int best = 0;
        for (unsigned int label = 1; label < classes; ++label) {
            if (raw[(4 + label) * anchors + anchor] > raw[(4 + best) * anchors + anchor]) {
                best = label;
            }
        }
        const float score = raw[(4 + best) * anchors + anchor];
        if (!(score >= detectionParams.perClassPreclusterThreshold[best])) {
            continue;
        }
        const float centre_x = raw[anchor], centre_y = raw[anchors + anchor];
        const float half_width = raw[2 * anchors + anchor] / 2, half_height = raw[3 * anchors + anchor] / 2;
        const float x1 = std::min(std::max(centre_x - half_width, 0.0F), right);
        const float y1 = std::min(std::max(centre_y - half_height, 0.0F), bottom);
        const float x2 = std::min(std::max(centre_x + half_width, 0.0F), right);
        const float y2 = std::min(std::max(centre_y + half_height, 0.0F), bottom);
        if (x2 <= x1 || y2 <= y1) {
            continue;
        }
        NvDsInferParseObjectInfo object{};
        object.classId = best;
        object.left = x1;
        object.top = y1;
        object.width = x2 - x1;
        object.height = y2 - y1;
        object.detectionConfidence = score;
        objectList.push_back(object);
    }
    return true;
}

CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseYoloqat);
