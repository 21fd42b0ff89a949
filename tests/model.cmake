rodeo_test(test_net SOURCES test_net.c golden.c LINKS rodeo_train lib_jansson)
rodeo_test(test_params SOURCES test_params.c tensors.c LINKS rodeo_model)
rodeo_test(test_weights SOURCES test_weights.c tensors.c LINKS rodeo_model)
